// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Charges: who is charged for how many bytes of memory, and the limits.
 *
 * An account is an open file's, and outlives it: what was freed and is exported,
 * or reached by another file, stays charged to it. Owns all byte counts. Takes
 * charge_lock.
 */
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "iospace.h"

#ifndef CONFIG_IOSPACE_MAX_FILE_MIB
#define CONFIG_IOSPACE_MAX_FILE_MIB 256
#endif
#ifndef CONFIG_IOSPACE_MAX_TOTAL_MIB
#define CONFIG_IOSPACE_MAX_TOTAL_MIB 1024
#endif

unsigned long iospace_max_file_bytes =
	CONFIG_IOSPACE_MAX_FILE_MIB * (ulong)SZ_1M;
module_param_named(max_file_bytes, iospace_max_file_bytes, ulong, 0644);
MODULE_PARM_DESC(max_file_bytes,
		 "Bytes of buffers that one open file may have");

unsigned long iospace_max_total_bytes =
	CONFIG_IOSPACE_MAX_TOTAL_MIB * (ulong)SZ_1M;
module_param_named(max_total_bytes, iospace_max_total_bytes, ulong, 0644);
MODULE_PARM_DESC(max_total_bytes,
		 "Bytes of buffers that all open files may have");

/* Guards all byte counts: of accounts, of devices, and the total. */
static DEFINE_SPINLOCK(iospace_charge_lock);
static u64 iospace_total_bytes;

/** iospace_account_create() - The account of a new open file, or NULL */
struct iospace_account *iospace_account_create(struct iospace_device *idev)
{
	struct iospace_account *account;

	account = kzalloc(sizeof(*account), GFP_KERNEL_ACCOUNT);
	if (!account)
		return NULL;
	kref_init(&account->kref);
	kref_get(&idev->kref);
	account->idev = idev;
	return account;
}

static void iospace_account_free(struct kref *kref)
{
	struct iospace_account *account =
		container_of(kref, struct iospace_account, kref);

	iospace_device_put(account->idev);
	kfree(account);
}

void iospace_account_put(struct iospace_account *account)
{
	kref_put(&account->kref, iospace_account_free);
}

/* Would @used + @bytes be over @limit? Cannot wrap. */
static bool iospace_charge_exceeds(u64 used, u64 bytes, u64 limit)
{
	return bytes > limit || used > limit - bytes;
}

/** iospace_charge_begin() - Begin a charge, of nothing */
void iospace_charge_begin(struct iospace_charge *charge,
			  struct iospace_account *account)
{
	kref_get(&account->kref);
	*charge = (struct iospace_charge){ .account = account };
}

/*
 * Beside what was charged before. Return: 0; or -EDQUOT, also for no bytes at all
 * when what is held has gone over the limit.
 */
int iospace_charge_more(struct iospace_charge *charge, size_t bytes)
{
	struct iospace_account *account = charge->account;
	int ret = -EDQUOT;

	spin_lock(&iospace_charge_lock);
	if (!iospace_charge_exceeds(account->bytes, bytes,
				    READ_ONCE(iospace_max_file_bytes)) &&
	    !iospace_charge_exceeds(iospace_total_bytes, bytes,
				    READ_ONCE(iospace_max_total_bytes))) {
		account->bytes += bytes;
		account->idev->bytes += bytes;
		iospace_total_bytes += bytes;
		charge->bytes += bytes;
		ret = 0;
	}
	spin_unlock(&iospace_charge_lock);
	return ret;
}

/** iospace_charge_hold() - Note that it waits for the last close */
void iospace_charge_hold(struct iospace_charge *charge)
{
	struct iospace_account *account = charge->account;

	spin_lock(&iospace_charge_lock);
	/* Too late to refuse them: others are. */
	account->bytes += charge->kept;
	account->idev->bytes += charge->kept;
	iospace_total_bytes += charge->kept;
	charge->bytes += charge->kept;
	account->idev->held_bytes += charge->bytes;
	spin_unlock(&iospace_charge_lock);
	charge->held = true;
}

static void iospace_charge_unhold(struct iospace_charge *charge)
{
	if (!charge->held)
		return;
	spin_lock(&iospace_charge_lock);
	charge->account->idev->held_bytes -= charge->bytes;
	spin_unlock(&iospace_charge_lock);
	charge->held = false;
}

/** iospace_charge_move() - Let @to go on with a charge, which waits no more */
void iospace_charge_move(struct iospace_charge *to, struct iospace_charge *from)
{
	iospace_charge_unhold(from);
	*to = *from;
	*from = (struct iospace_charge){};
}

/** iospace_charge_end() - Give back what is charged; nothing after a move */
void iospace_charge_end(struct iospace_charge *charge)
{
	struct iospace_account *account = charge->account;

	if (!account)
		return;
	iospace_charge_unhold(charge);
	spin_lock(&iospace_charge_lock);
	account->bytes -= charge->bytes;
	account->idev->bytes -= charge->bytes;
	iospace_total_bytes -= charge->bytes;
	spin_unlock(&iospace_charge_lock);
	iospace_account_put(account);
	*charge = (struct iospace_charge){};
}

u64 iospace_charge_bytes(struct iospace_device *idev)
{
	u64 bytes;

	spin_lock(&iospace_charge_lock);
	bytes = idev->bytes;
	spin_unlock(&iospace_charge_lock);
	return bytes;
}

u64 iospace_charge_held_bytes(struct iospace_device *idev)
{
	u64 bytes;

	spin_lock(&iospace_charge_lock);
	bytes = idev->held_bytes;
	spin_unlock(&iospace_charge_lock);
	return bytes;
}
