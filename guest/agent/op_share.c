/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Folders of the host, over 9p.  One of them can be the root of all that is
 * run from then on: read only, with what the guest writes in memory above it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "ops.h"

#define PLACE "/.linklab-host" /* where the new root is put together, in the image's */
#define P9 "trans=virtio,version=9p2000.L,access=any,msize=512000,"

/* What the guest has of its own, whatever the host has there. */
static const struct {
	const char *type, *where, *options;
} own[] = {
	{ "proc", "/proc", "" },
	{ "sysfs", "/sys", "" },
	{ "devtmpfs", "/dev", "" },
	{ "devpts", "/dev/pts", "ptmxmode=0666" },
	{ "tmpfs", "/dev/shm", "mode=1777" },
	{ "tmpfs", "/run", "mode=0755" },
	{ "tmpfs", "/tmp", "mode=1777" },
};

static int make_folders(char *path)
{
	for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	return mkdir(path, 0755) && errno != EEXIST ? -1 : 0;
}

/* A kernel may lack one of them: an empty folder then stands for what the host has there. */
static int mount_own(void)
{
	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++) {
		const char *type = own[i].type, *where = own[i].where;

		if (mkdir(where, 0755) && errno != EEXIST)
			return -1;
		if (mount(type, where, type, MS_NOSUID, own[i].options) &&
		    mount("tmpfs", where, "tmpfs", MS_NOSUID, "mode=0755"))
			return -1;
	}
	return 0;
}

/*
 * Makes the host's root ours.  It is moved over the old one, as switch_root
 * does: a process that is merely chrooted may make no user namespace
 * (current_chrooted in the kernel's fs/namespace.c).
 */
static int enter(const char *tag)
{
	static const char *const folders[] = { "/lower", "/upper", "/work", "/root" };

	if ((mkdir(PLACE, 0755) && errno != EEXIST) || mount("tmpfs", PLACE, "tmpfs", 0, "mode=0755"))
		return -1;
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		char path[64];

		snprintf(path, sizeof(path), PLACE "%s", folders[i]);
		if (mkdir(path, 0755))
			return -1;
	}
	if (mount(tag, PLACE "/lower", "9p", MS_RDONLY, P9 "cache=loose") ||
	    mount("overlay", PLACE "/root", "overlay", 0,
		  "lowerdir=" PLACE "/lower,upperdir=" PLACE "/upper,workdir=" PLACE "/work") ||
	    chdir(PLACE "/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") ||
	    chdir("/"))
		return -1;
	return mount_own();
}

/* Written through at once, but for shared mappings: a guest that crashes has lost nothing. */
static int share_folder(const char *tag, char *path)
{
	return make_folders(path) || mount(tag, path, "9p", 0, P9 "cache=mmap") ? -1 : 0;
}

/*
 * count, that many times tag and path: mounts the folder of the host that QEMU
 * shares under the tag, to be written; as `/`, to be read, and as the root.
 */
enum outcome op_share(struct reader *in, struct buffer *out, struct failure *why)
{
	uint64_t count = take_u64(in);

	(void)out;
	for (; count && !in->bad; count--) {
		char *tag = take_text(in), *path = take_text(in), what[300];
		enum outcome outcome = OP_OK;

		if (!tag || !path || *path != '/')
			outcome = fail(why, OP_BAD_REQUEST, 0, "share: tags and absolute paths expected");
		else if (strcmp(path, "/") ? share_folder(tag, path) : enter(tag)) {
			snprintf(what, sizeof(what), "the host's %s", path);
			outcome = fail(why, OP_SYSTEM, errno, what);
		}
		free(tag);
		free(path);
		if (outcome != OP_OK)
			return outcome;
	}
	return in->bad ? fail(why, OP_BAD_REQUEST, 0, "share: tags and paths expected") : OP_OK;
}
