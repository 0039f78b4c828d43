/* SPDX-License-Identifier: GPL-2.0-only */
/* Makes a PPP interface, as pppd would, and holds it. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PPPIOCNEWUNIT _IOWR('t', 62, int) /* <linux/ppp-ioctl.h> */

int main(void)
{
	int unit = -1, fd = open("/dev/ppp", O_RDWR);

	if (fd < 0 || ioctl(fd, (int)PPPIOCNEWUNIT, &unit)) {
		perror("/dev/ppp");
		return 1;
	}
	printf("ppp%d\n", unit);
	fflush(stdout);
	pause();
	return 0;
}
