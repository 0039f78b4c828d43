// SPDX-License-Identifier: GPL-2.0-only
/* Says hello in /proc/hello. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

static int show(struct seq_file *file, void *unused)
{
	seq_printf(file, "hello from %s\n", KBUILD_MODNAME);
	return 0;
}

static int __init hello_init(void)
{
	return proc_create_single("hello", 0, NULL, show) ? 0 : -ENOMEM;
}

static void __exit hello_exit(void)
{
	remove_proc_entry("hello", NULL);
}

module_init(hello_init);
module_exit(hello_exit);
MODULE_DESCRIPTION("A module for the tests of --module");
MODULE_LICENSE("GPL");
