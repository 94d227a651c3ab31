/*-------------------------------------------------------------------------
 *
 * disk_full.c
 *	  A file system that is full when a test says so.
 *
 * To be loaded into a server by LD_PRELOAD.  While the file named by the
 * environment variable DISK_FULL exists, what would make a file below the
 * directory longer that is written in it fails with ENOSPC.  As on a real
 * disk, what is there already can be overwritten.  Unlike a small file
 * system it needs no rights to mount, and can be full at a chosen place.
 *
 *-------------------------------------------------------------------------
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

/* Servers from 16 on have what a module does not export hidden. */
#pragma GCC visibility push(default)

/* The directory that is full, with its links resolved; false if none is. */
static int
full_directory(char *directory)
{
	const char *flag = getenv("DISK_FULL");
	char		line[PATH_MAX];
	FILE	   *file;
	int			found;

	if (flag == NULL || access(flag, F_OK) != 0)
		return 0;
	file = fopen(flag, "r");
	if (file == NULL)
		return 0;
	found = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	if (!found)
		return 0;
	line[strcspn(line, "\n")] = '\0';
	return realpath(line, directory) != NULL;
}

/* Whether there is no room to write up to this place of the file. */
static int
no_room(int fd, off_t end)
{
	int			saved = errno;
	int			full = 0;
	char		directory[PATH_MAX];

	if (full_directory(directory))
	{
		char		link[64];
		char		path[PATH_MAX];
		ssize_t		length;
		struct stat status;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, sizeof(path) - 1);
		if (length > 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
		{
			path[length] = '\0';
			full = end > status.st_size &&
				strncmp(path, directory, strlen(directory)) == 0 &&
				path[strlen(directory)] == '/';
		}
	}
	errno = full ? ENOSPC : saved;
	return full;
}

static size_t
length_of(const struct iovec *parts, int n)
{
	size_t		length = 0;
	int			i;

	for (i = 0; i < n; i++)
		length += parts[i].iov_len;
	return length;
}

ssize_t
write(int fd, const void *data, size_t length)
{
	off_t		at = lseek(fd, 0, SEEK_CUR);

	if (at >= 0 && no_room(fd, at + (off_t) length))
		return -1;
	return REAL(write) (fd, data, length);
}

ssize_t
pwrite(int fd, const void *data, size_t length, off_t at)
{
	if (no_room(fd, at + (off_t) length))
		return -1;
	return REAL(pwrite) (fd, data, length, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t length, off64_t at)
{
	return pwrite(fd, data, length, at);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int n, off_t at)
{
	if (no_room(fd, at + (off_t) length_of(parts, n)))
		return -1;
	return REAL(pwritev) (fd, parts, n, at);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int n, off64_t at)
{
	return pwritev(fd, parts, n, at);
}

int
posix_fallocate(int fd, off_t at, off_t length)
{
	if (no_room(fd, at + length))
		return ENOSPC;
	return REAL(posix_fallocate) (fd, at, length);
}

int
posix_fallocate64(int fd, off64_t at, off64_t length)
{
	return posix_fallocate(fd, at, length);
}
