// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Platform devices on a PC without a device tree, as a board file would make them: each has a
 * register range and, if it wants one, an edge interrupt of the I/O APIC; whatever clock its driver
 * asks for is one clock of a fixed rate.
 *
 *   modprobe platform_devices device=NAME:START:SIZE:GSI[,...]     GSI 0: no interrupt
 *
 * In that order: a device may be looked for by the driver of one that comes after it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/acpi.h>
#include <linux/clk-provider.h>
#include <linux/clkdev.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#define MOST 8

static char *device[MOST];
static int devices;
module_param_array(device, charp, &devices, 0444);
MODULE_PARM_DESC(device, "NAME:START:SIZE:GSI of each device");

static struct platform_device *made[MOST];
static struct clk_lookup *lookups[MOST];
static int lines[MOST];
static struct clk *clock;

static void undo(void)
{
	int i;

	for (i = devices - 1; i >= 0; i--) {
		if (!IS_ERR_OR_NULL(made[i]))
			platform_device_unregister(made[i]);
		if (lookups[i])
			clkdev_drop(lookups[i]);
		if (lines[i])
			acpi_unregister_gsi(lines[i]);
	}
	clk_unregister_fixed_rate(clock);
}

static int make(int i)
{
	struct platform_device_info info = {
		.id = PLATFORM_DEVID_NONE,
		.dma_mask = DMA_BIT_MASK(32),
	};
	unsigned long long start, size;
	struct resource resources[2];
	char *text, *part[4];
	unsigned int line;
	int n, irq = 0;

	text = device[i];
	for (n = 0; n < 4; n++)
		part[n] = strsep(&text, ":");
	if (!part[3] || text || kstrtoull(part[1], 0, &start) ||
	    kstrtoull(part[2], 0, &size) || kstrtouint(part[3], 0, &line)) {
		pr_err("device %d is not NAME:START:SIZE:GSI\n", i);
		return -EINVAL;
	}
	if (line) {
		irq = acpi_register_gsi(NULL, line, ACPI_EDGE_SENSITIVE, ACPI_ACTIVE_HIGH);
		if (irq < 0)
			return irq;
		lines[i] = line;
	}
	/* Without a connection name the lookup answers for every clock of the device. */
	lookups[i] = clkdev_create(clock, NULL, "%s", part[0]);
	if (!lookups[i])
		return -ENOMEM;
	resources[0] = (struct resource)DEFINE_RES_MEM(start, size);
	resources[1] = (struct resource)DEFINE_RES_IRQ(irq);
	info.name = part[0];
	info.res = resources;
	info.num_res = line ? 2 : 1;
	made[i] = platform_device_register_full(&info);
	pr_info("%s at %#llx, gsi %u is irq %d\n", part[0], start, line, irq);
	return PTR_ERR_OR_ZERO(made[i]);
}

static int __init platform_devices_init(void)
{
	int i, ret = 0;

	clock = clk_register_fixed_rate(NULL, "platform-devices", NULL, 0, 200000000);
	if (IS_ERR(clock))
		return PTR_ERR(clock);
	for (i = 0; i < devices && !ret; i++)
		ret = make(i);
	if (ret)
		undo();
	return ret;
}

static void __exit platform_devices_exit(void)
{
	undo();
}

module_init(platform_devices_init);
module_exit(platform_devices_exit);
MODULE_DESCRIPTION("platform devices from module parameters");
MODULE_LICENSE("GPL");
