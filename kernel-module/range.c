// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A range of physical memory: how one is written in a parameter, what is wrong
 * with it, and who has claimed it.
 *
 * Owns the parameter "allow" and the claims of open windows on what it declares.
 * A claim keeps drivers out. Windows that overlap share it.
 */
#define pr_fmt(format) KBUILD_MODNAME ": " format

#include <linux/capability.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/security.h>
#include <linux/slab.h>
#ifdef CONFIG_ARM64
#include <asm/cpufeature.h>
#endif

#include "iospace.h"

#define IOSPACE_MAX_ALLOWED 16

static char *iospace_range_allow;
module_param_named(allow, iospace_range_allow, charp, 0444);
MODULE_PARM_DESC(
	allow,
	"Ranges that CAP_SYS_RAWIO may open windows on: SIZE@ADDRESS[,...]");

static struct iospace_range iospace_range_allowed[IOSPACE_MAX_ALLOWED];
static unsigned int iospace_range_allowed_count;

/**
 * struct iospace_claim - Pages that open windows have claimed
 * @node: In the list; claims do not overlap
 * @range: The pages
 * @users: Windows that have a part of it
 */
struct iospace_claim {
	struct list_head node;
	struct iospace_range range;
	unsigned int users;
};

static LIST_HEAD(iospace_range_claims);
static DEFINE_MUTEX(iospace_range_lock); /* for the list of claims */

/** iospace_range_limit() - The last byte that the CPU can address */
u64 iospace_range_limit(void)
{
	u64 limit = iomem_resource.end;

#ifdef CONFIG_ARM64
	u64 features = read_cpuid(ID_AA64MMFR0_EL1);
	u32 bits = id_aa64mmfr0_parange_to_phys_shift(features & 15);

	limit = min3(limit, BIT_ULL(bits) - 1, (u64)PHYS_MASK);
#elif defined(CONFIG_RISCV)
	/* What an entry of a page table has room for. */
	limit = min(limit, BIT_ULL(56) - 1);
#endif
	return limit;
}

bool iospace_range_contains(const struct iospace_range *outer,
			    const struct iospace_range *inner)
{
	return inner->start >= outer->start && inner->end <= outer->end;
}

bool iospace_range_overlaps(const struct iospace_range *a,
			    const struct iospace_range *b)
{
	return a->start <= b->end && b->start <= a->end;
}

u64 iospace_range_size(const struct iospace_range *range)
{
	return range->end - range->start + 1;
}

/** iospace_range_is_ram() - Does the system use any of it? */
bool iospace_range_is_ram(const struct iospace_range *range)
{
	return region_intersects(range->start, iospace_range_size(range),
				 IORESOURCE_SYSTEM_RAM,
				 IORES_DESC_NONE) != REGION_DISJOINT;
}

/**
 * iospace_range_make() - Make a range of an address and a size
 * @range: The result
 * @start: Its first byte
 * @size: Its size
 *
 * Return: NULL, or what is wrong with it.
 */
const char *iospace_range_make(struct iospace_range *range, u64 start, u64 size)
{
	if (!size)
		return "is empty";
	if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(size))
		return "is not whole pages";
	if (size - 1 > U64_MAX - start)
		return "wraps around the end of all addresses";
	if (start + (size - 1) > iospace_range_limit())
		return "lies beyond what this CPU can address";
	range->start = start;
	range->end = start + (size - 1);
	return NULL;
}

/**
 * iospace_range_parse() - Read a parameter: SIZE@ADDRESS[,SIZE@ADDRESS...]
 * @name: Of the parameter
 * @text: Its value; NULL if it was not given
 * @add: Called for each, says what is wrong with it, or NULL
 *
 * Return: 0, or -EINVAL, and why was written to the log.
 */
int iospace_range_parse(const char *name, const char *text,
			const char *(*add)(const struct iospace_range *range))
{
	const char *rest = text;
	struct iospace_range range;
	const char *problem;
	u64 start, size;
	char *at;

	while (rest && *rest) {
		size = memparse(rest, &at);
		if (at == rest || *at != '@')
			goto malformed;
		rest = at + 1;
		start = memparse(rest, &at);
		if (at == rest || (*at && (*at != ',' || !at[1])))
			goto malformed;
		rest = *at ? at + 1 : at;

		problem = iospace_range_make(&range, start, size);
		if (!problem && iospace_range_is_ram(&range))
			problem = "lies over memory that the system uses";
		if (!problem)
			problem = add(&range);
		if (problem) {
			pr_err("%s=0x%llx@0x%llx %s\n", name, size, start,
			       problem);
			return -EINVAL;
		}
	}
	return 0;

malformed:
	pr_err("%s: expected SIZE@ADDRESS[,SIZE@ADDRESS...], got \"%s\"\n",
	       name, text);
	return -EINVAL;
}

static const char *iospace_range_add_allowed(const struct iospace_range *range)
{
	unsigned int i;

	for (i = 0; i < iospace_range_allowed_count; i++) {
		if (iospace_range_overlaps(range, &iospace_range_allowed[i]))
			return "overlaps another range of the parameter";
	}
	if (iospace_arena_overlaps(range))
		return "overlaps an arena";
	if (iospace_range_allowed_count == IOSPACE_MAX_ALLOWED)
		return "is one range too many";
	iospace_range_allowed[iospace_range_allowed_count++] = *range;
	return NULL;
}

/** iospace_range_init() - Read the parameter; arenas are known already */
int iospace_range_init(void)
{
	return iospace_range_parse("allow", iospace_range_allow,
				   iospace_range_add_allowed);
}

/** iospace_range_is_allowed() - Did the parameter "allow" declare all of it? */
bool iospace_range_is_allowed(const struct iospace_range *range)
{
	unsigned int i;

	for (i = 0; i < iospace_range_allowed_count; i++) {
		if (iospace_range_contains(&iospace_range_allowed[i], range))
			return true;
	}
	return false;
}

/** iospace_range_may_access() - May the caller open what is no arena? */
bool iospace_range_may_access(void)
{
	return capable(CAP_SYS_RAWIO) &&
	       !security_locked_down(LOCKDOWN_DEV_MEM);
}

static void iospace_claim_put(struct iospace_claim *claim)
{
	if (--claim->users)
		return;
	release_mem_region(claim->range.start,
			   iospace_range_size(&claim->range));
	list_del(&claim->node);
	kfree(claim);
}

/* Gives back what a window has of [@start, @end]: all claims in it. */
static void iospace_range_unclaim_part(u64 start, u64 end)
{
	const struct iospace_range part = { .start = start, .end = end };
	struct iospace_claim *claim, *next;

	list_for_each_entry_safe(claim, next, &iospace_range_claims, node) {
		if (iospace_range_overlaps(&claim->range, &part))
			iospace_claim_put(claim);
	}
}

/* The claim at @start; or a new one, up to the next claim, at most to @end. */
static struct iospace_claim *iospace_range_claim_at(u64 start, u64 end)
{
	struct iospace_claim *claim;

	list_for_each_entry(claim, &iospace_range_claims, node) {
		if (claim->range.start <= start && start <= claim->range.end)
			return claim;
		if (claim->range.start > start)
			end = min(end, claim->range.start - 1);
	}

	claim = kzalloc(sizeof(*claim), GFP_KERNEL_ACCOUNT);
	if (!claim)
		return ERR_PTR(-ENOMEM);
	claim->range.start = start;
	claim->range.end = end;
	if (!request_mem_region(start, iospace_range_size(&claim->range),
				KBUILD_MODNAME)) {
		kfree(claim);
		return ERR_PTR(-EBUSY);
	}
	list_add(&claim->node, &iospace_range_claims);
	return claim;
}

/**
 * iospace_range_claim() - Keep drivers out of a range
 * @range: Of whole pages
 *
 * Return: 0, or -EBUSY if a driver has a part of it.
 */
int iospace_range_claim(const struct iospace_range *range)
{
	struct iospace_claim *claim;
	u64 at = range->start;
	int ret = 0;

	mutex_lock(&iospace_range_lock);
	for (;;) {
		claim = iospace_range_claim_at(at, range->end);
		if (IS_ERR(claim)) {
			ret = PTR_ERR(claim);
			if (at > range->start)
				iospace_range_unclaim_part(range->start,
							   at - 1);
			break;
		}
		claim->users++;
		if (claim->range.end >= range->end)
			break;
		at = claim->range.end + 1;
	}
	mutex_unlock(&iospace_range_lock);
	return ret;
}

void iospace_range_unclaim(const struct iospace_range *range)
{
	mutex_lock(&iospace_range_lock);
	iospace_range_unclaim_part(range->start, range->end);
	mutex_unlock(&iospace_range_lock);
}
