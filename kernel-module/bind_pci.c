// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * How a PCI function becomes an iospace device: by driver_override or new_id.
 *
 * Owns what the function needs to work: enabled, its interrupts allocated, bus
 * mastering while it is open. No function is claimed by itself.
 */
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/pci.h>

#include "compat.h"
#include "iospace.h"

/* INTx may be shared with others; its mask is the function's own. */
static bool iospace_intx_claim(struct iospace_vector *vector)
{
	return pci_check_and_mask_intx(to_pci_dev(vector->idev->dev));
}

static void iospace_intx_mask(struct iospace_vector *vector)
{
	pci_intx(to_pci_dev(vector->idev->dev), 0);
}

static void iospace_intx_unmask(struct iospace_vector *vector)
{
	pci_intx(to_pci_dev(vector->idev->dev), 1);
}

static const struct iospace_vector_ops iospace_intx_ops = {
	.request_flags = IRQF_SHARED,
	.level = true,
	.born_masked = true,
	.claim = iospace_intx_claim,
	.mask = iospace_intx_mask,
	.unmask = iospace_intx_unmask,
};

/*
 * Needs the device's lock, which others hold for a moment, and remove for long.
 * Return: 0, -EAGAIN if they do not give it, -ENOTTY of a function without reset.
 */
static int iospace_pci_try_reset(struct pci_dev *pdev)
{
	int tries, ret;

	for (tries = 0; tries < 20; tries++) {
		ret = pci_try_reset_function(pdev);
		if (ret != -EAGAIN)
			break;
		usleep_range(500, 1000);
	}
	return ret;
}

static int iospace_pci_start(struct iospace_device *idev)
{
	struct pci_dev *pdev = to_pci_dev(idev->dev);

	/* What it had begun it would go on with, in memory that went back. */
	if (!idev->ended && iospace_pci_try_reset(pdev) == -EAGAIN)
		return -EBUSY;
	pci_set_master(pdev);
	return 0;
}

static bool iospace_pci_quiesce(struct iospace_device *idev, bool unbinding)
{
	struct pci_dev *pdev = to_pci_dev(idev->dev);
	u16 command;

	/* What was pulled out writes nothing, and would be waited for long. */
	if (!pci_device_is_present(pdev))
		return true;

	pci_clear_master(pdev);
	/* The answer to a read pushes what the function has written before it. */
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	pci_wait_for_pending_transaction(pdev);

	/*
	 * Without bus mastering it is quiet. Only a reset ends what it would go
	 * on with when it is opened again, and not every function has one.
	 */
	return unbinding ? !pci_reset_function_locked(pdev) :
			   !iospace_pci_try_reset(pdev);
}

static void iospace_pci_disable(struct iospace_device *idev)
{
	struct pci_dev *pdev = to_pci_dev(idev->dev);

	pci_free_irq_vectors(pdev);
	/* Without messages a function turns to its line, which nobody serves. */
	pci_intx(pdev, 0);
	pci_disable_device(pdev);
}

static const struct iospace_bus_ops iospace_pci_ops = {
	.bus = IOSPACE_BUS_PCI,
	.start = iospace_pci_start,
	.quiesce = iospace_pci_quiesce,
	.disable = iospace_pci_disable,
};

static int iospace_pci_add_regs(struct iospace_device *idev)
{
	struct pci_dev *pdev = to_pci_dev(idev->dev);
	int ret, i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		const struct resource *res = &pdev->resource[i];

		/* Absent, or nobody found room for it. */
		if (!res->parent)
			res = NULL;
		ret = iospace_regs_claim(idev, i, res, NULL);
		if (ret)
			return ret;
	}
	return 0;
}

/* A function without interrupts is a function without vectors, no error. */
static void iospace_pci_add_vectors(struct iospace_device *idev)
{
	struct pci_dev *pdev = to_pci_dev(idev->dev);
	int count, i;

	count = pci_alloc_irq_vectors(pdev, 1, IOSPACE_MAX_VECTORS,
				      PCI_IRQ_MSIX | PCI_IRQ_MSI |
					      PCI_IRQ_INTX);
	if (count <= 0)
		return;

	if (pci_dev_msi_enabled(pdev)) {
		for (i = 0; i < count; i++)
			iospace_vector_add(idev, &iospace_edge_ops,
					   pci_irq_vector(pdev, i), NULL);
	} else if (pci_intx_mask_supported(pdev)) {
		pci_intx(pdev, 0);
		iospace_vector_add(idev, &iospace_intx_ops, pdev->irq, NULL);
	} else {
		iospace_vector_add(idev, &iospace_line_ops, pdev->irq, NULL);
	}
}

static int iospace_pci_probe(struct pci_dev *pdev,
			     const struct pci_device_id *id)
{
	struct iospace_device *idev;
	int ret;

	if (pdev->hdr_type != PCI_HEADER_TYPE_NORMAL)
		return -EINVAL;

	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	pci_clear_master(pdev);

	idev = iospace_device_create(&pdev->dev, &iospace_pci_ops, NULL, 1);
	if (IS_ERR(idev)) {
		ret = PTR_ERR(idev);
		goto disable_device;
	}
	ret = iospace_pci_add_regs(idev);
	if (ret)
		goto abort_device;
	iospace_pci_add_vectors(idev);

	ret = iospace_device_publish(idev);
	if (ret)
		goto free_vectors;
	pci_set_drvdata(pdev, idev);
	return 0;

free_vectors:
	pci_free_irq_vectors(pdev);
abort_device:
	iospace_device_abort(idev);
disable_device:
	pci_disable_device(pdev);
	return ret;
}

static void iospace_pci_remove(struct pci_dev *pdev)
{
	iospace_device_remove(pci_get_drvdata(pdev));
}

static struct pci_driver iospace_pci_driver = {
	.name = "iospace",
	.probe = iospace_pci_probe,
	.remove = iospace_pci_remove,
};

int iospace_bind_pci_init(void)
{
	return pci_register_driver(&iospace_pci_driver);
}

void iospace_bind_pci_exit(void)
{
	pci_unregister_driver(&iospace_pci_driver);
}
