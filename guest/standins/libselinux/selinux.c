// SPDX-License-Identifier: GPL-2.0
/*
 * What `ip` of Debian 13 takes of libselinux, which brings libpcre2 with it: 0.9 MB
 * for two questions whose answer is known, as no kernel of a guest has SELinux on.
 */
int is_selinux_enabled(void);
int setexecfilecon(const char *filename, const char *fallback_type);

int is_selinux_enabled(void)
{
	return 0;
}

int setexecfilecon(const char *filename, const char *fallback_type)
{
	(void)filename;
	(void)fallback_type;
	return -1; /* nobody asks where SELinux is off */
}
