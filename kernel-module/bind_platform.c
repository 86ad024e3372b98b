// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * How a platform device becomes an iospace device: by driver_override, or as a
 * device-tree node that is compatible with "iospace,device". And iospace0, a
 * platform device of the module's own, with no hardware behind it.
 *
 * Owns what a platform device needs to work: power, clocks, resets. Registers
 * of a block without them hang the bus.
 */
#include <linux/clk.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/platform_device.h>
#include <linux/pm_runtime.h>
#include <linux/reset.h>
#include <linux/slab.h>

#include "compat.h"
#include "iospace.h"

/* What keeps a device working while it is bound. */
struct iospace_supply {
	struct clk_bulk_data *clocks;
	int clock_count;
	struct reset_control *resets;
};

static struct platform_device *iospace_own_device;

static int iospace_platform_start(struct iospace_device *idev)
{
	struct iospace_supply *supply = idev->bus_data;

	return reset_control_deassert(supply->resets);
}

static bool iospace_platform_quiesce(struct iospace_device *idev,
				     bool unbinding)
{
	struct iospace_supply *supply = idev->bus_data;

	return supply->resets && !reset_control_assert(supply->resets);
}

static struct iospace_supply *iospace_supply_get(struct device *dev)
{
	struct iospace_supply *supply;
	int ret;

	supply = kzalloc(sizeof(*supply), GFP_KERNEL);
	if (!supply)
		return ERR_PTR(-ENOMEM);

	pm_runtime_enable(dev);
	ret = pm_runtime_resume_and_get(dev);
	if (ret < 0)
		goto disable_runtime;

	supply->clock_count = clk_bulk_get_all(dev, &supply->clocks);
	ret = supply->clock_count;
	if (ret < 0)
		goto put_runtime;
	ret = clk_bulk_prepare_enable(supply->clock_count, supply->clocks);
	if (ret)
		goto put_clocks;

	/* Deasserted when the device is opened, asserted at its last close. */
	supply->resets =
		of_reset_control_array_get_optional_exclusive(dev->of_node);
	if (IS_ERR(supply->resets)) {
		ret = PTR_ERR(supply->resets);
		goto disable_clocks;
	}
	return supply;

disable_clocks:
	clk_bulk_disable_unprepare(supply->clock_count, supply->clocks);
put_clocks:
	clk_bulk_put_all(supply->clock_count, supply->clocks);
put_runtime:
	pm_runtime_put_sync(dev);
disable_runtime:
	pm_runtime_disable(dev);
	kfree(supply);
	return ERR_PTR(ret);
}

static void iospace_supply_put(struct device *dev,
			       struct iospace_supply *supply)
{
	reset_control_put(supply->resets);
	clk_bulk_disable_unprepare(supply->clock_count, supply->clocks);
	clk_bulk_put_all(supply->clock_count, supply->clocks);
	pm_runtime_put_sync(dev);
	pm_runtime_disable(dev);
	kfree(supply);
}

static void iospace_platform_disable(struct iospace_device *idev)
{
	iospace_pool_release(idev);
	iospace_supply_put(idev->dev, idev->bus_data);
}

static const struct iospace_bus_ops iospace_platform_ops = {
	.bus = IOSPACE_BUS_PLATFORM,
	.start = iospace_platform_start,
	.quiesce = iospace_platform_quiesce,
	.disable = iospace_platform_disable,
};

static const struct iospace_bus_ops iospace_own_ops = {
	.bus = IOSPACE_BUS_NONE,
	.start = iospace_platform_start,
	.quiesce = iospace_platform_quiesce,
	.disable = iospace_platform_disable,
};

/* The name of entry @index in the list of names @property, or NULL. */
static const char *iospace_platform_name(struct device *dev,
					 const char *property, int index)
{
	const char *name;

	if (of_property_read_string_index(dev->of_node, property, index, &name))
		return NULL;
	return name;
}

static int iospace_platform_add_regs(struct iospace_device *idev,
				     struct platform_device *pdev)
{
	struct resource *res;
	int ret, i;

	for (i = 0; i < IOSPACE_MAX_REGS; i++) {
		res = platform_get_resource(pdev, IORESOURCE_MEM, i);
		if (!res)
			break;
		ret = iospace_regs_claim(
			idev, i, res,
			iospace_platform_name(&pdev->dev, "reg-names", i));
		if (ret)
			return ret;
	}
	return 0;
}

/* What is not known to be an edge is masked, which harms no edge. */
static const struct iospace_vector_ops *iospace_platform_vector_ops(int irq)
{
	switch (irq_get_trigger_type(irq)) {
	case IRQ_TYPE_EDGE_RISING:
	case IRQ_TYPE_EDGE_FALLING:
	case IRQ_TYPE_EDGE_BOTH:
		return &iospace_edge_ops;
	default:
		return &iospace_line_ops;
	}
}

static int iospace_platform_add_vectors(struct iospace_device *idev,
					struct platform_device *pdev)
{
	int count, irq, i;

	count = platform_irq_count(pdev);
	if (count < 0)
		return count;

	for (i = 0; i < min(count, IOSPACE_MAX_VECTORS); i++) {
		irq = platform_get_irq(pdev, i);
		if (irq < 0)
			return irq;
		iospace_vector_add(idev, iospace_platform_vector_ops(irq), irq,
				   iospace_platform_name(&pdev->dev,
							 "interrupt-names", i));
	}
	return 0;
}

static int iospace_platform_probe(struct platform_device *pdev)
{
	bool own = pdev == iospace_own_device;
	struct iospace_supply *supply;
	struct iospace_device *idev;
	int ret;

	supply = iospace_supply_get(&pdev->dev);
	if (IS_ERR(supply))
		return PTR_ERR(supply);

	idev = iospace_device_create(
		&pdev->dev, own ? &iospace_own_ops : &iospace_platform_ops,
		supply, !own);
	if (IS_ERR(idev)) {
		ret = PTR_ERR(idev);
		goto put_supply;
	}
	ret = iospace_pool_init(idev);
	if (ret)
		goto abort_device;
	ret = iospace_platform_add_regs(idev, pdev);
	if (ret)
		goto release_pool;
	ret = iospace_platform_add_vectors(idev, pdev);
	if (ret)
		goto release_pool;

	ret = iospace_device_publish(idev);
	if (ret)
		goto release_pool;
	platform_set_drvdata(pdev, idev);
	return 0;

release_pool:
	iospace_pool_release(idev);
abort_device:
	iospace_device_abort(idev);
put_supply:
	iospace_supply_put(&pdev->dev, supply);
	return ret;
}

static IOSPACE_PLATFORM_REMOVE_TYPE
iospace_platform_remove(struct platform_device *pdev)
{
	iospace_device_remove(platform_get_drvdata(pdev));
	return IOSPACE_PLATFORM_REMOVED;
}

/*
 * What goes on would write into the memory of the next kernel. Programs still run.
 * Of PCI functions the kernel itself takes bus mastering.
 */
static void iospace_platform_shutdown(struct platform_device *pdev)
{
	iospace_device_end(platform_get_drvdata(pdev));
}

static const struct of_device_id iospace_of_ids[] = {
	{ .compatible = "iospace,device" },
	{},
};
MODULE_DEVICE_TABLE(of, iospace_of_ids);

static struct platform_driver iospace_platform_driver = {
	.probe		= iospace_platform_probe,
	.remove		= iospace_platform_remove,
	.shutdown	= iospace_platform_shutdown,
	.driver		= {
		.name		= "iospace",
		.of_match_table	= iospace_of_ids,
	},
};

int iospace_bind_platform_init(void)
{
	const struct platform_device_info info = {
		.name = "iospace",
		.id = PLATFORM_DEVID_NONE,
		.dma_mask = DMA_BIT_MASK(64),
	};
	int ret;

	/* Before the driver, whose probe must know it. */
	iospace_own_device = platform_device_register_full(&info);
	if (IS_ERR(iospace_own_device))
		return PTR_ERR(iospace_own_device);
	ret = platform_driver_register(&iospace_platform_driver);
	if (ret)
		platform_device_unregister(iospace_own_device);
	return ret;
}

void iospace_bind_platform_exit(void)
{
	platform_driver_unregister(&iospace_platform_driver);
	platform_device_unregister(iospace_own_device);
}
