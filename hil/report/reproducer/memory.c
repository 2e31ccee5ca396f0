// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How the memory classes are made.  Each part defines make(), which gives the driver at least `need`
 * bytes; the macros that some ask for come from hil/report/reproducer/classes.py.
 */

/*@ anonymous: single fill */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = single(length);
	fill(address, length);
}

/*@ anonymous-untouched: single */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = single(length);
}

/*@ anonymous-zero-page: single read-each */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = single(length);
	read_each(address, length);
}

/*@ anonymous-unaligned: single fill */
static void make(size_t need)
{
	/* Its last bytes lie in one page more than its length says. */
	length = UP(need | 1, PAGE) - 61;
	length += length < need ? PAGE : 0;
	address = single(UP(length + 123, PAGE));
	fill(address, UP(length + 123, PAGE));
	address += 123;
}

/*@ two-mappings: single fill */
static void make(size_t need)
{
	size_t half;

	length = UP(need, PAGE) < 2 * PAGE ? 2 * PAGE : UP(need, PAGE);
	address = single(length);
	half = length / 2 / PAGE * PAGE;
	if (madvise(address + half, length - half, MADV_DONTDUMP))
		cannot("madvise(MADV_DONTDUMP): %s", strerror(errno));
	fill(address, length);
}

/*@ anonymous-movable: single fill on-movable */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = single(length);
	on_movable();
	fill(address, length);
	must_be_movable();
}

/*@ thp-pages: place smaps switch */
/* Whole transparent huge pages, each mapped by a PMD. */
static char *huge_pages(size_t size)
{
	char *found = place(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	set_switch("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	madvise(found, size, MADV_HUGEPAGE);
	for (size_t at = 0; at < size; at += HUGE)
		found[at] = 1;
	madvise(found, size, 25); /* MADV_COLLAPSE, 6.1 */
	if (smaps(found, "AnonHugePages") < size / 1024)
		cannot("the kernel gave %zu of %zu KiB in huge pages: memory is fragmented",
		       smaps(found, "AnonHugePages"), size / 1024);
	return found;
}

/*@ thp: thp-pages fill */
static void make(size_t need)
{
	length = UP(need, HUGE);
	address = huge_pages(length);
	fill(address, length);
}

/*@ thp-prot-none: thp-pages fill */
static void make(size_t need)
{
	length = UP(need, HUGE);
	address = huge_pages(length);
	fill(address, length);
	if (mprotect(address, length, PROT_NONE))
		cannot("mprotect: %s", strerror(errno));
}

/*@ thp-part: thp-pages fill */
static void make(size_t need)
{
	size_t offset = 5 * PAGE + 0x300;

	length = need;
	address = huge_pages(UP(offset + length, HUGE));
	fill(address, offset + length);
	address += offset;
}

/*@ thp-two: thp-pages fill */
static void make(size_t need)
{
	size_t before;

	length = UP(need, PAGE) < 2 * PAGE ? 2 * PAGE : UP(need, PAGE);
	before = UP(length / 2, PAGE) < HUGE ? UP(length / 2, PAGE) : HUGE;
	address = huge_pages(HUGE + UP(length - before, HUGE)) + HUGE - before;
	fill(address, length);
}

/*@ thp-movable: thp-pages fill on-movable */
static void make(size_t need)
{
	length = UP(need, HUGE);
	on_movable();
	address = huge_pages(length);
	fill(address, length);
	must_be_movable();
}

/*@ huge-pool: read-number */
/*
 * So many free huge pages of HUGE_SIZE, and if it can be as many again: a write after a fork takes a
 * copy.  `of` is a NUMA node, or -1.
 */
static void pool(size_t count, int of)
{
	char top[96], free_pages[128], all_pages[128];
	long all, missing;
	int fd;

	if (of < 0)
		snprintf(top, sizeof(top), "/sys/kernel/mm/hugepages");
	else
		snprintf(top, sizeof(top), "/sys/devices/system/node/node%d/hugepages", of);
	snprintf(free_pages, sizeof(free_pages), "%.60s/hugepages-%lukB/free_hugepages", top,
		 (unsigned long)(HUGE_SIZE / 1024));
	snprintf(all_pages, sizeof(all_pages), "%.60s/hugepages-%lukB/nr_hugepages", top,
		 (unsigned long)(HUGE_SIZE / 1024));
	all = read_number(all_pages);
	if (all < 0)
		cannot("%s: this machine has no huge pages of that size", all_pages);
	missing = 2 * (long)count - read_number(free_pages);
	if (missing > 0) {
		snprintf(kept[keeps].path, sizeof(kept[0].path), "%s", all_pages);
		snprintf(kept[keeps++].text, sizeof(kept[0].text), "%ld", all);
		fd = open(all_pages, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || dprintf(fd, "%ld", all + missing) < 0)
			say("%s: %s", all_pages, strerror(errno));
		close(fd);
	}
	if (read_number(free_pages) < (long)count)
		cannot("%s: %zu huge pages of %lu MiB are not to be had", all_pages, count,
		       (unsigned long)(HUGE_SIZE / MIB));
}

/*@ huge-mapping: place huge-pool memfd */
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4U
#endif
#define LOG2_SIZE (63 - __builtin_clzl(HUGE_SIZE))

/* Huge pages that nobody has touched. */
static char *huge_mapping(size_t size, int flags, int memfd, int of)
{
	pool(size / HUGE_SIZE, of);
	if (memfd)
		return place(size, PROT_READ | PROT_WRITE, flags,
			     memory_file(size, MFD_HUGETLB | (unsigned int)LOG2_SIZE << 26), 0);
	return place(size, PROT_READ | PROT_WRITE,
		     flags | MAP_ANONYMOUS | MAP_HUGETLB | LOG2_SIZE << 26, -1, 0);
}

/*@ hugetlb: huge-mapping fill */
static void make(size_t need)
{
	length = UP(need, HUGE_SIZE);
	address = huge_mapping(length, MAPPING, IN_MEMFD, -1);
	fill(address, length);
}

/*@ hugetlb-untouched: huge-mapping */
static void make(size_t need)
{
	length = UP(need, HUGE_SIZE);
	address = huge_mapping(length, MAPPING, IN_MEMFD, -1);
}

/*@ hugetlb-readonly: huge-mapping fill */
static void make(size_t need)
{
	length = UP(need, HUGE_SIZE);
	address = huge_mapping(length, MAPPING, IN_MEMFD, -1);
	fill(address, length);
	if (mprotect(address, length, PROT_READ))
		cannot("mprotect: %s", strerror(errno));
}

/*@ hugetlb-1g: huge-mapping fill */
/* Inside of a 1 GiB page, across one of its 2 MiB borders. */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = huge_mapping(UP(length + HUGE, HUGE_SIZE), MAPPING, IN_MEMFD, -1) + HUGE - PAGE;
	fill(address, length);
}

/*@ hugetlb-movable: huge-mapping fill on-movable */
static void make(size_t need)
{
	length = UP(need, HUGE_SIZE);
	on_movable();
	address = huge_mapping(length, MAPPING, IN_MEMFD, movable[movables - 1].node);
	fill(address, length);
	must_be_movable();
}

/*@ shared-anonymous: shared fill */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = shared(length, -1);
	fill(address, length);
}

/*@ memfd-shared: shared memfd fill */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = shared(length, memory_file(length, 0));
	fill(address, length);
}

/*@ memfd-movable: shared memfd fill on-movable */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = shared(length, memory_file(length, 0));
	on_movable();
	fill(address, length);
	must_be_movable();
}

/*@ tmpfs: shared file */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = shared(length, file_on("tmpfs", 0, length));
	fill(address, length);
}

/*@ shmem-thp: place fill memfd smaps switch */
static void make(size_t need)
{
	length = UP(need, HUGE);
	set_switch("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise");
	address = place(length, PROT_READ | PROT_WRITE,
			MAP_SHARED | (IN_MEMFD ? 0 : MAP_ANONYMOUS),
			IN_MEMFD ? memory_file(length, 0) : -1, 0);
	madvise(address, length, MADV_HUGEPAGE);
	for (size_t at = 0; at < length; at += HUGE)
		address[at] = 1;
	madvise(address, length, 25); /* MADV_COLLAPSE, 6.1 */
	if (smaps(address, "ShmemPmdMapped") < length / 1024)
		cannot("the kernel gave %zu of %zu KiB in huge pages",
		       smaps(address, "ShmemPmdMapped"), length / 1024);
	fill(address, length);
}

/*@ sysv: fill */
#include <sys/ipc.h>
#include <sys/shm.h>

static void make(size_t need)
{
	int segment;

	length = UP(need, PAGE);
	segment = shmget(IPC_PRIVATE, length, IPC_CREAT | 0600);
	address = segment < 0 ? (char *)-1 : shmat(segment, NULL, 0);
	if (address == (char *)-1)
		cannot("System V shared memory: %s", strerror(errno));
	shmctl(segment, IPC_RMID, NULL);
	madvise(address, length, MADV_NOHUGEPAGE);
	fill(address, length);
}

/*@ memfd-future-write-seal: shared memfd fill */
static void make(size_t need)
{
	int fd;

	length = UP(need, PAGE);
	fd = memory_file(length, MFD_ALLOW_SEALING);
	address = shared(length, fd);
	fill(address, length);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE))
		cannot("F_SEAL_FUTURE_WRITE: %s", strerror(errno));
}

/*@ sealed-memfd: shared memfd fill */
/* A memory file that is full, not mapped, and sealed. */
static int sealed_memfd(size_t size, int seals)
{
	int fd = memory_file(size, MFD_ALLOW_SEALING);
	char *start = shared(size, fd);

	fill(start, size);
	munmap(start, size);
	if (seals && fcntl(fd, F_ADD_SEALS, seals))
		cannot("F_ADD_SEALS: %s", strerror(errno));
	return fd;
}

/*@ read-each */
static void read_each(const volatile char *start, size_t size)
{
	for (size_t at = 0; at < size; at += PAGE)
		(void)start[at];
}

/*@ memfd-readonly: sealed-memfd read-each */
/* A shared read-only mapping, through a descriptor that can't write. */
static void make(size_t need)
{
	char path[64];

	length = UP(need, PAGE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", sealed_memfd(length, SEALS));
	address = place(length, PROT_READ, MAP_SHARED, open(path, O_RDONLY | O_CLOEXEC), 0);
	read_each(address, length);
}

/*@ memfd-sealed-private: sealed-memfd read-each */
static void make(size_t need)
{
	int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

	length = UP(need, PAGE);
	address = place(length, PROT_READ | PROT_WRITE, MAP_PRIVATE, sealed_memfd(length, seals), 0);
	read_each(address, length);
}

/*@ memfd-secret: place fill */
static void make(size_t need)
{
	int fd = (int)syscall(447, 0); /* memfd_secret, 5.14 */

	length = UP(need, PAGE);
	if (fd < 0 || ftruncate(fd, (off_t)length))
		cannot("memfd_secret: %s: 5.14 with CONFIG_SECRETMEM, before 6.5 secretmem.enable=1",
		       strerror(errno));
	address = place(length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fill(address, length);
}

/*@ file-mapping: place file */
static void make(size_t need)
{
	volatile char *start;

	length = UP(need, PAGE);
	start = address = place(length, PROTECTION, MAPPING, file_on(FILE_SYSTEM, DAX, length), 0);
	for (size_t at = 0; at < length && TOUCH; at += PAGE) {
		if (TOUCH > 1) /* and so copies a private page */
			start[at] = (char)(at % 251);
		else
			(void)start[at];
	}
}

/*@ beyond-eof: place file memfd */
/* Half of the pages lie beyond the end of the file: a touch there is SIGBUS. */
static void make(size_t need)
{
	size_t inside;
	int fd;

	length = UP(need, PAGE) < 2 * PAGE ? 2 * PAGE : UP(need, PAGE);
	inside = length / PAGE / 2 * PAGE;
	fd = IN_MEMFD ? memory_file(inside, 0) : file_on(FILE_SYSTEM, 0, inside);
	address = place(length, PROT_READ | PROT_WRITE, MAPPING, fd, 0);
	madvise(address, length, MADV_NOHUGEPAGE);
	fill(address, inside);
}

/*@ protected: single shared fill */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = MAPPING == MAP_SHARED ? shared(length, -1) : single(length);
	fill(address, length);
	if (mprotect(address, length, PROTECTION))
		cannot("mprotect: %s", strerror(errno));
}

/*@ hole: single fill */
/* Ordinary memory but for one page: the first, one in the middle, or the last. */
static void make(size_t need)
{
	size_t pages;
	char *hole;
	int failed;

	length = UP(need, PAGE) < 3 * PAGE ? 3 * PAGE : UP(need, PAGE);
	pages = length / PAGE;
	address = single(length);
	fill(address, length);
	hole = address + PAGE * (HOLE == 0 ? 0 : HOLE == 1 ? pages / 2 : pages - 1);
	failed = HOLE_BY == 0 ? munmap(hole, PAGE) :
		 HOLE_BY == 1 ? mprotect(hole, PAGE, PROT_NONE) :
				madvise(hole, PAGE, 102); /* MADV_GUARD_INSTALL, 6.13 */
	if (failed)
		cannot("the hole: %s", strerror(errno));
}

/*@ below-stack: place */
#include <sys/resource.h>

static void make(size_t need)
{
	struct rlimit limit;
	char *top;

	length = UP(need, PAGE);
	top = place(length + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(top, length + 2 * HUGE);
	top = mmap(top + length + HUGE, 16 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	if (top == MAP_FAILED)
		cannot("MAP_GROWSDOWN: %s", strerror(errno));
	memset(top, 0x5a, 16 * PAGE);
	getrlimit(RLIMIT_STACK, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_STACK, &limit);
	address = top - length;
}

/*@ pointer */
/* What no user mapping can be. */
static void make(size_t need)
{
	address = (char *)(uintptr_t)POINTER;
	length = UP(need, PAGE);
	if ((uintptr_t)address + length < (uintptr_t)address || length < 2 * PAGE)
		length = length < 2 * PAGE ? 2 * PAGE : length;
}

/*@ zero-length: single fill */
static void make(size_t need)
{
	address = single(UP(need, PAGE));
	fill(address, UP(need, PAGE));
	length = 0;
}

/*@ too-short: single fill */
static void make(size_t need)
{
	address = single(UP(need, PAGE));
	fill(address, UP(need, PAGE));
	length = need / 2 ? need / 2 : 1;
}

/*@ swapped-out: single fill */
static void make(size_t need)
{
	struct look made;

	length = UP(need, PAGE);
	address = single(length);
	fill(address, length);
	madvise(address, length, 21); /* MADV_PAGEOUT */
	made = look("made", address);
	if (made.present)
		cannot("%zu pages are not in swap: swapon something, and run this again", made.present);
}

/*@ cow-shared-with-child: single fill */
static void make(size_t need)
{
	length = UP(need, PAGE);
	address = single(length);
	fill(address, length);
	if (fork() == 0) { /* it goes with its parent */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
}

/*@ over-memlock: single fill */
#include <linux/capability.h>
#include <sys/resource.h>

static void make(size_t need)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2];
	struct rlimit none = { 0, 0 };

	length = UP(need, PAGE);
	address = single(length);
	fill(address, length);
	setrlimit(RLIMIT_MEMLOCK, &none);
	if (syscall(SYS_capget, &header, caps))
		cannot("capget: %s", strerror(errno));
	caps[0].effective &= ~(1U << CAP_IPC_LOCK);
	caps[0].permitted &= ~(1U << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, caps) || !mlock(address, PAGE))
		cannot("the right to lock memory could not be given up");
}

/*@ remapped-same-address: single fill */
#define SETTLE 1

static void make(size_t need)
{
	length = UP(need, PAGE);
	address = single(length);
	fill(address, length);
}

/* Between two pins of one pointer: other memory is behind it. */
static void settle(void)
{
	munmap(address, length);
	if (mmap(address, length, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != address)
		cannot("mmap: %s", strerror(errno));
	madvise(address, length, MADV_NOHUGEPAGE);
	memset(address, 0xa5, length);
}

/*@ resized-same-address: single fill */
#define SETTLE 1

static void make(size_t need)
{
	length = UP(need, PAGE) + PAGE;
	address = single(length);
	fill(address, length);
}

/* Between two pins of one pointer: the second time with less length. */
static void settle(void)
{
	length -= PAGE;
}

/*@ device-mapping: place read-each */
/* Device memory: DEVICE is a PCI resource of sysfs, or a device-dax node. */
static void make(size_t need)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	length = UP(need, (size_t)ALIGNMENT);
	if (fd < 0)
		cannot("%s: %s: name what this machine has in DEVICE", DEVICE, strerror(errno));
	address = place(length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (TOUCH)
		read_each(address, length);
}

/*@ udmabuf: place memfd fill */
#include <linux/udmabuf.h>

static void make(size_t need)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC };
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), fd;

	length = UP(need, PAGE);
	create.memfd = (unsigned int)memory_file(length, MFD_ALLOW_SEALING);
	create.size = length;
	if (device < 0 || fcntl((int)create.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		cannot("/dev/udmabuf: %s: modprobe udmabuf", strerror(errno));
	fd = ioctl(device, UDMABUF_CREATE, &create);
	if (fd < 0)
		cannot("UDMABUF_CREATE: %s", strerror(errno));
	address = place(length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fill(address, length);
}

/*@ drm-dumb-buffer: fill */
/* As <drm/drm_mode.h> has them, which is not everywhere installed. */
struct dumb {
	uint32_t height, width, bpp, flags, handle, pitch;
	uint64_t size;
};
struct dumb_map {
	uint32_t handle, pad;
	uint64_t offset;
};
#define CREATE_DUMB _IOWR('d', 0xb2, struct dumb)
#define MAP_DUMB _IOWR('d', 0xb3, struct dumb_map)

static void make(size_t need)
{
	struct dumb create = { .bpp = 32, .width = 1024 };
	struct dumb_map map = { 0 };
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	create.height = (unsigned int)(UP(need, PAGE) / 4096 + 1);
	if (fd < 0 || ioctl(fd, CREATE_DUMB, &create))
		cannot("%s gives no dumb buffer: %s", DEVICE, strerror(errno));
	map.handle = create.handle;
	if (ioctl(fd, MAP_DUMB, &map))
		cannot("MAP_DUMB: %s", strerror(errno));
	length = create.size;
	address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)map.offset);
	if (address == MAP_FAILED)
		cannot("mmap of a dumb buffer: %s", strerror(errno));
	fill(address, length);
}

/*@ v4l2-mmap-buffer: fill */
#include <linux/videodev2.h>

/* The MMAP buffer of another queue: DEVICE, whose driver has its memory from vmalloc. */
static void make(size_t need)
{
	struct v4l2_capability capability = { 0 };
	struct v4l2_requestbuffers request = { .count = 1, .memory = V4L2_MEMORY_MMAP };
	struct v4l2_create_buffers create = { .count = 1, .memory = V4L2_MEMORY_MMAP };
	struct v4l2_buffer lent = { .memory = V4L2_MEMORY_MMAP };
	int fd = open(DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC), failed;

	if (fd < 0 || ioctl(fd, VIDIOC_QUERYCAP, &capability))
		cannot("%s: %s", DEVICE, strerror(errno));
	lent.type = capability.device_caps & V4L2_CAP_VIDEO_CAPTURE ? V4L2_BUF_TYPE_VIDEO_CAPTURE :
								     V4L2_BUF_TYPE_VIDEO_OUTPUT;
	request.type = create.format.type = lent.type;
	failed = ioctl(fd, VIDIOC_G_FMT, &create.format);
	if (!failed && create.format.fmt.pix.sizeimage < need) {
		/* A larger size without a change of format. */
		create.format.fmt.pix.sizeimage = (unsigned int)UP(need, PAGE);
		failed = ioctl(fd, VIDIOC_CREATE_BUFS, &create);
		lent.index = create.index;
	} else if (!failed) {
		failed = ioctl(fd, VIDIOC_REQBUFS, &request);
	}
	if (failed || ioctl(fd, VIDIOC_QUERYBUF, &lent) || lent.length < need)
		cannot("%s lends no buffer of %zu bytes: %s", DEVICE, need, strerror(errno));
	length = UP(lent.length, PAGE);
	address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)lent.m.offset);
	if (address == MAP_FAILED)
		cannot("mmap of %s: %s", DEVICE, strerror(errno));
	fill(address, length);
}
