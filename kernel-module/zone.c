// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Zone: a part of the machine's physical memory, by address. The kernel's own
 * zones, where this kernel and machine have them.
 *
 * Takes no lock.
 */
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/nodemask.h>

#include "iospace.h"

/* What the page allocator calls it; a kernel may lack the lower two. */
static const struct {
	bool exists;
	enum zone_type type;
	gfp_t gfp;
} iospace_zones[] = {
#ifdef CONFIG_ZONE_DMA
	[IOSPACE_ZONE_DMA] = { true, ZONE_DMA, GFP_DMA },
#endif
#ifdef CONFIG_ZONE_DMA32
	[IOSPACE_ZONE_DMA32] = { true, ZONE_DMA32, GFP_DMA32 },
#endif
	[IOSPACE_ZONE_NORMAL] = { true, ZONE_NORMAL, 0 },
};

/* Address after the zone's last byte; 0 if the machine has no such memory. */
static u64 iospace_zone_end(enum iospace_zone zone)
{
	u64 end = 0;
	int node;

	if (!iospace_zones[zone].exists)
		return 0;
	for_each_online_node(node) {
		struct zone *part =
			&NODE_DATA(node)->node_zones[iospace_zones[zone].type];

		if (managed_zone(part))
			end = max_t(u64, end,
				    (u64)zone_end_pfn(part) << PAGE_SHIFT);
	}
	return end;
}

/** iospace_zone_all() - Bit (1 << enum iospace_zone) for each that there is */
u32 iospace_zone_all(void)
{
	enum iospace_zone zone;
	u32 bits = 0;

	for (zone = IOSPACE_ZONE_DMA; zone <= IOSPACE_ZONE_NORMAL; zone++) {
		if (iospace_zone_end(zone))
			bits |= BIT(zone);
	}
	return bits;
}

/** iospace_zone_gfp() - What makes the page allocator look there first */
gfp_t iospace_zone_gfp(enum iospace_zone zone)
{
	return iospace_zones[zone].gfp;
}

/** iospace_zone_limit() - Highest physical address of a zone */
u64 iospace_zone_limit(enum iospace_zone zone)
{
	return zone == IOSPACE_ZONE_ANY || zone == IOSPACE_ZONE_NORMAL ?
		       U64_MAX :
		       iospace_zone_end(zone) - 1;
}

/** iospace_zone_least_limit() - Highest physical address of the lowest zone */
u64 iospace_zone_least_limit(void)
{
	return iospace_zone_end(__ffs(iospace_zone_all())) - 1;
}

/** iospace_zone_has() - Does the page lie in the zone, or, but for "normal", below? */
bool iospace_zone_has(enum iospace_zone zone, const struct page *page)
{
	if (zone == IOSPACE_ZONE_ANY)
		return true;
	return zone == IOSPACE_ZONE_NORMAL ?
		       page_zonenum(page) >= ZONE_NORMAL :
		       page_zonenum(page) <= iospace_zones[zone].type;
}

/** iospace_zone_lower() - Go on to the next zone: pages of this one lie too high */
int iospace_zone_lower(enum iospace_zone *zone)
{
	u32 lower;

	if (*zone == IOSPACE_ZONE_ANY)
		*zone = IOSPACE_ZONE_NORMAL;
	lower = iospace_zone_all() & (BIT(*zone) - 1);
	if (!lower)
		return -ENOMEM;
	*zone = __fls(lower);
	return 0;
}
