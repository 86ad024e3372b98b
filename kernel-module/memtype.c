// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A memory type: what it is to the page tables of this CPU.
 *
 * Owns two answers. With which protection is a type mapped? And which type does
 * a mapping really have? On x86 a call that asks for a type may succeed and
 * give another: the kernel keeps one type for each physical range, and whoever
 * came first has chosen it. So there the entry of the kernel's own mapping is
 * read back, and its slot looked up in the CPU's table of types (PAT).
 */
#include <linux/io.h>
#include <linux/mm.h>

#ifdef CONFIG_X86
#include <asm/cacheflush.h>
#include <asm/memtype.h>
#include <asm/msr.h>
#endif

#include "iospace.h"

/**
 * iospace_memtype_prot() - The protection with which a type is mapped
 * @memory: One of iospace_memtype_all(), or IOSPACE_MEMORY_DEVICE
 * @prot: That of ordinary, cached memory
 */
pgprot_t iospace_memtype_prot(enum iospace_memory memory, pgprot_t prot)
{
	switch (memory) {
	case IOSPACE_MEMORY_CACHED:
		return prot;
#ifdef CONFIG_X86
	case IOSPACE_MEMORY_UNCACHED:
		return pgprot_noncached(prot);
	case IOSPACE_MEMORY_WRITETHROUGH:
		return pgprot_writethrough(prot);
#endif
	case IOSPACE_MEMORY_DEVICE:
		return pgprot_device(prot);
	default:
		/*
		 * Elsewhere "uncached" means registers: no unaligned access.
		 * Memory that no cache holds is this.
		 */
		return pgprot_writecombine(prot);
	}
}

#ifdef CONFIG_X86

/* As the CPU's table has them. */
enum iospace_pat {
	IOSPACE_PAT_UC = 0,
	IOSPACE_PAT_WC = 1,
	IOSPACE_PAT_WT = 4,
	IOSPACE_PAT_WB = 6,
	IOSPACE_PAT_UC_MINUS = 7,
};

/* The type that the CPU takes from an entry's @bits. */
static enum iospace_pat iospace_memtype_pat(u64 bits, bool large)
{
	unsigned int slot = 0;
	u32 low, high;

	if (bits & _PAGE_PWT)
		slot |= 1;
	if (bits & _PAGE_PCD)
		slot |= 2;
	if (bits & (large ? _PAGE_PAT_LARGE : _PAGE_PAT))
		slot |= 4;
	rdmsr(MSR_IA32_CR_PAT, low, high);
	return ((slot & 4 ? high : low) >> 8 * (slot & 3)) & 7;
}

static bool iospace_memtype_fits(enum iospace_memory memory,
				 enum iospace_pat pat)
{
	switch (memory) {
	case IOSPACE_MEMORY_CACHED:
		return pat == IOSPACE_PAT_WB;
	case IOSPACE_MEMORY_WRITECOMBINE:
		return pat == IOSPACE_PAT_WC;
	case IOSPACE_MEMORY_WRITETHROUGH:
		return pat == IOSPACE_PAT_WT;
	case IOSPACE_MEMORY_UNCACHED:
	case IOSPACE_MEMORY_DEVICE:
		return pat == IOSPACE_PAT_UC_MINUS || pat == IOSPACE_PAT_UC;
	default:
		return false;
	}
}

/* Without PAT, writecombine takes the slot of uncached. */
static bool iospace_memtype_exists(enum iospace_memory memory)
{
	pgprot_t prot = iospace_memtype_prot(memory, PAGE_KERNEL);

	return iospace_memtype_fits(
		memory, iospace_memtype_pat(pgprot_val(prot), false));
}

bool iospace_memtype_is(const void *address, enum iospace_memory memory)
{
	unsigned int level;
	pte_t *entry = lookup_address((unsigned long)address, &level);

	return entry &&
	       iospace_memtype_fits(memory,
				    iospace_memtype_pat(pte_val(*entry),
							level > PG_LEVEL_4K));
}

bool iospace_memtype_side_by_side(void)
{
	return !pat_enabled();
}

static void __iomem *iospace_memtype_map(phys_addr_t start, size_t size,
					 enum iospace_memory memory)
{
	switch (memory) {
	case IOSPACE_MEMORY_CACHED:
		return ioremap_cache(start, size);
	case IOSPACE_MEMORY_WRITECOMBINE:
		return ioremap_wc(start, size);
	case IOSPACE_MEMORY_WRITETHROUGH:
		return ioremap_wt(start, size);
	default:
		return ioremap(start, size);
	}
}

static void __iomem *iospace_memtype_try(phys_addr_t start, size_t size,
					 enum iospace_memory memory)
{
	void __iomem *base = iospace_memtype_map(start, size, memory);

	if (!base || iospace_memtype_is((__force void *)base, memory))
		return base;
	iounmap(base);
	return IOMEM_ERR_PTR(-EBUSY);
}

/*
 * Why a type was not to be had. Where nobody holds the range both of the first two
 * can be had; where someone does, at least what he holds.
 */
static int iospace_memtype_why(phys_addr_t start, size_t size)
{
	static const enum iospace_memory types[] = {
		IOSPACE_MEMORY_WRITECOMBINE,
		IOSPACE_MEMORY_UNCACHED,
		IOSPACE_MEMORY_CACHED,
	};
	bool had[ARRAY_SIZE(types)], any = false;
	int i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		void __iomem *base = iospace_memtype_try(start, size, types[i]);

		had[i] = !IS_ERR_OR_NULL(base);
		if (had[i])
			iounmap(base);
		any |= !!base;
	}
	if (had[0] && had[1])
		return -EOPNOTSUPP;
	return any ? -EBUSY : -ENOMEM;
}

/**
 * iospace_memtype_reserve() - Make the kernel hold a physical range in a type
 * @start: Not System RAM
 * @size: Whole pages
 * @memory: One of iospace_memtype_all(), or IOSPACE_MEMORY_DEVICE
 *
 * From then on each page of it that is inserted in a page table has that type,
 * whoever inserts it. What is held is a mapping, of large pages where the range
 * has them.
 *
 * Return: What iospace_memtype_unreserve() takes, or an error: -EBUSY if someone
 * else holds the range in another type, -EOPNOTSUPP if the machine does not
 * allow this one there.
 */
void __iomem *iospace_memtype_reserve(phys_addr_t start, size_t size,
				      enum iospace_memory memory)
{
	void __iomem *base;

	/* Below 1 MiB the kernel keeps no types: all is cached. */
	if (memory != IOSPACE_MEMORY_CACHED && start < SZ_1M)
		return IOMEM_ERR_PTR(-EOPNOTSUPP);

	base = iospace_memtype_try(start, size, memory);
	if (IS_ERR_OR_NULL(base))
		return IOMEM_ERR_PTR(iospace_memtype_why(start, size));
	return base;
}

void iospace_memtype_unreserve(void __iomem *base)
{
	iounmap(base);
}

/**
 * iospace_memtype_flush() - Leave nothing of memory in the caches
 * @base: Its mapping, cached or write-through
 * @size: Bytes
 *
 * For who has it next in a type that goes around them.
 */
void iospace_memtype_flush(void *base, size_t size)
{
	size_t at;

	for (at = 0; at < size; at += SZ_4M) {
		clflush_cache_range(base + at, min_t(size_t, size - at, SZ_4M));
		cond_resched();
	}
}

#else /* !CONFIG_X86 */

/* Where page tables have no types, as on riscv without Svpbmt, nothing changes. */
static bool iospace_memtype_exists(enum iospace_memory memory)
{
	pgprot_t prot = iospace_memtype_prot(memory, PAGE_KERNEL);

	return memory == IOSPACE_MEMORY_CACHED ||
	       (memory != IOSPACE_MEMORY_WRITETHROUGH &&
		pgprot_val(prot) != pgprot_val(PAGE_KERNEL));
}

/* A mapping is what it was made. */
bool iospace_memtype_is(const void *address, enum iospace_memory memory)
{
	return true;
}

bool iospace_memtype_side_by_side(void)
{
	return true;
}

void __iomem *iospace_memtype_reserve(phys_addr_t start, size_t size,
				      enum iospace_memory memory)
{
	return NULL;
}

void iospace_memtype_unreserve(void __iomem *base) {}

/* Whoever has memory in several types sees to that. */
void iospace_memtype_flush(void *base, size_t size) {}

#endif /* CONFIG_X86 */

/** iospace_memtype_all() - Bit for each type of memory that this CPU has */
u32 iospace_memtype_all(void)
{
	static const enum iospace_memory types[] = {
		IOSPACE_MEMORY_CACHED,
		IOSPACE_MEMORY_WRITECOMBINE,
		IOSPACE_MEMORY_UNCACHED,
		IOSPACE_MEMORY_WRITETHROUGH,
	};
	u32 all = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		if (iospace_memtype_exists(types[i]))
			all |= BIT(types[i]);
	}
	return all;
}
