// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who pins.  Each part defines open_device(), which tells how many bytes the driver wants, pin(),
 * which gives the errno of the call under test, stop() and release(); COMPANIONS is how many pages
 * the driver pins beside the buffer.
 */

/*@ v4l2 */
#include <linux/videodev2.h>

static int device = -1;
static unsigned int planes = 1;
static size_t lengths[VIDEO_MAX_PLANES];
static char *others[VIDEO_MAX_PLANES]; /* planes but the last, which is the one under test */
static size_t companions;
static struct v4l2_format before;
static int changed;

/* Of a multi-planar queue, a format of two planes or more if there is one. */
static void more_planes(void)
{
	struct v4l2_fmtdesc description = { .type = TYPE };
	struct v4l2_format wanted;

	for (; !ioctl(device, VIDIOC_ENUM_FMT, &description); description.index++) {
		wanted = before;
		wanted.fmt.pix_mp.pixelformat = description.pixelformat;
		if (ioctl(device, VIDIOC_TRY_FMT, &wanted) || wanted.fmt.pix_mp.num_planes < 2 ||
		    wanted.fmt.pix_mp.pixelformat != description.pixelformat)
			continue;
		changed = !ioctl(device, VIDIOC_S_FMT, &wanted);
		return;
	}
}

static size_t open_device(void)
{
	struct v4l2_requestbuffers request = { .count = 1, .type = TYPE, .memory = V4L2_MEMORY_USERPTR };
	struct v4l2_plane plane[VIDEO_MAX_PLANES] = { 0 };
	struct v4l2_buffer buffer = { .type = TYPE, .memory = V4L2_MEMORY_USERPTR };
	struct v4l2_capability capability = { 0 };
	struct v4l2_format format = { .type = TYPE };

	device = open(node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (device < 0 || ioctl(device, VIDIOC_QUERYCAP, &capability))
		cannot("%s: %s", node, strerror(errno));
	say("%s: driver %s, %s", node, capability.driver, capability.bus_info);
	if (strcmp((const char *)capability.driver, DRIVER))
		say("(the cell was seen with driver %s)", DRIVER);
	before.type = TYPE;
	if (ioctl(device, VIDIOC_G_FMT, &before))
		cannot("VIDIOC_G_FMT: %s", strerror(errno));
	if (MULTI_PLANAR && before.fmt.pix_mp.num_planes < 2)
		more_planes();
	if (ioctl(device, VIDIOC_REQBUFS, &request) || !request.count)
		cannot("VIDIOC_REQBUFS of user pointers: %s", strerror(errno));
	ioctl(device, VIDIOC_G_FMT, &format);
	buffer.m.planes = MULTI_PLANAR ? plane : NULL;
	buffer.length = MULTI_PLANAR ? VIDEO_MAX_PLANES : 0;
	if (ioctl(device, VIDIOC_QUERYBUF, &buffer))
		cannot("VIDIOC_QUERYBUF: %s", strerror(errno));
	planes = MULTI_PLANAR ? buffer.length : 1;
	for (unsigned int i = 0; i < planes; i++) {
		lengths[i] = MULTI_PLANAR ? plane[i].length : buffer.length;
		if (!lengths[i])
			lengths[i] = SIZE_IN(format, i);
		if (!lengths[i])
			cannot("the queue tells no size of a buffer");
		if (i + 1 < planes)
			companions += UP(lengths[i], PAGE) / PAGE;
	}
	for (unsigned int i = 0; i + 1 < planes; i++)
		others[i] = mmap(NULL, lengths[i], PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return lengths[planes - 1];
}

static int pin(void)
{
	struct v4l2_plane plane[VIDEO_MAX_PLANES] = { 0 };
	struct v4l2_buffer buffer = { .type = TYPE, .memory = V4L2_MEMORY_USERPTR };
	size_t whole = lengths[planes - 1];
	unsigned int used = OUTPUT ? (unsigned int)(length < whole ? length : whole) : 0;

	if (MULTI_PLANAR) {
		for (unsigned int i = 0; i < planes; i++) {
			int last = i + 1 == planes;

			plane[i].m.userptr = (unsigned long)(last ? address : others[i]);
			plane[i].length = (unsigned int)(last ? length : lengths[i]);
			plane[i].bytesused = OUTPUT ? (last ? used : plane[i].length) : 0;
		}
		buffer.m.planes = plane;
		buffer.length = planes;
	} else {
		buffer.m.userptr = (unsigned long)address;
		buffer.length = (unsigned int)length;
		buffer.bytesused = used;
	}
	return ioctl(device, CALL, &buffer) ? errno : 0;
}

static void __attribute__((unused)) stop(void)
{
	int type = TYPE;

	ioctl(device, VIDIOC_STREAMOFF, &type);
}

static void release(void)
{
	struct v4l2_requestbuffers request = { .type = TYPE, .memory = V4L2_MEMORY_USERPTR };

	ioctl(device, VIDIOC_REQBUFS, &request);
	if (changed)
		ioctl(device, VIDIOC_S_FMT, &before);
	close(device);
}

/*@ stream: v4l2 */
/* One frame into the buffer; the driver's further buffers get memory of their own. */
static void stream(void)
{
	struct v4l2_buffer buffer = { .type = TYPE, .memory = V4L2_MEMORY_USERPTR };
	struct pollfd ready = { .fd = device, .events = POLLIN };
	size_t seen = length < lengths[0] ? length : lengths[0], same = 0;
	char *old = malloc(seen);
	int type = TYPE;

	if (!old)
		cannot("no memory");
	memcpy(old, address, seen);
	for (unsigned int i = 1; i < VIDEO_MAX_FRAME; i++) {
		buffer.index = i;
		if (ioctl(device, VIDIOC_QUERYBUF, &buffer))
			break;
		buffer.m.userptr = (unsigned long)mmap(NULL, lengths[0], PROT_READ | PROT_WRITE,
						       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		buffer.length = (unsigned int)lengths[0];
		if (ioctl(device, VIDIOC_QBUF, &buffer))
			say("VIDIOC_QBUF of buffer %u: %s", i, strerror(errno));
	}
	if (ioctl(device, VIDIOC_STREAMON, &type)) {
		say("VIDIOC_STREAMON: %s: no data is looked at", strerror(errno));
		free(old);
		return;
	}
	do {
		memset(&buffer, 0, sizeof(buffer));
		buffer.type = TYPE;
		buffer.memory = V4L2_MEMORY_USERPTR;
		if (poll(&ready, 1, 3000) <= 0 || ioctl(device, VIDIOC_DQBUF, &buffer)) {
			say("no frame came within 3 s: no data is looked at");
			stop();
			free(old);
			return;
		}
	} while (buffer.index);
	stop();
	for (size_t at = 0; at + PAGE <= buffer.bytesused && at + PAGE <= seen; at += PAGE)
		same += !memcmp(old + at, address + at, PAGE);
	say("a frame of %u bytes came%s; %zu of its pages are as they were before", buffer.bytesused,
	    buffer.flags & V4L2_BUF_FLAG_ERROR ? ", marked as damaged" : "", same);
	if (same && !(buffer.flags & V4L2_BUF_FLAG_ERROR))
		defect("%zu pages did not get what the device wrote", same);
	free(old);
}

/*@ io-uring */
#include <linux/io_uring.h>
#include <sys/uio.h>

static int device = -1, registered;
static const size_t companions;

static size_t open_device(void)
{
	struct io_uring_params parameters = { 0 };

	device = (int)syscall(425, 1, &parameters); /* io_uring_setup */
	if (device < 0)
		cannot("io_uring_setup: %s", strerror(errno));
	say("io_uring's registered buffers in place of %s", node);
	return 64 * 1024;
}

static void stop(void)
{
	if (registered)
		syscall(427, device, IORING_UNREGISTER_BUFFERS, NULL, 0);
	registered = 0;
}

static int pin(void)
{
	struct iovec vector = { address, length };

	stop(); /* a ring takes one set of buffers at a time */
	if (syscall(427, device, IORING_REGISTER_BUFFERS, &vector, 1))
		return errno;
	registered = 1;
	return 0;
}

static void release(void)
{
	stop();
	close(device);
}
