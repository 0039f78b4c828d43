// SPDX-License-Identifier: GPL-2.0-only
/* Finds no device, and says so. */
#include <linux/module.h>

static int __init refuses_init(void)
{
	pr_warn("no device for %s\n", KBUILD_MODNAME);
	return -ENODEV;
}

module_init(refuses_init);
MODULE_DESCRIPTION("A module for the tests of --module");
MODULE_LICENSE("GPL");
