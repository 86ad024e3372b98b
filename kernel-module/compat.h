/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Every difference between the kernels that iospace supports, 5.10 and later,
 * and nothing else. The rest of the module reads as if only the newest kernel
 * existed. IOSPACE_HAVE_... come from Kbuild, which looks into the kernel's
 * headers, because distributions backport.
 */
#ifndef IOSPACE_COMPAT_H
#define IOSPACE_COMPAT_H

#include <linux/backing-dev.h>
#include <linux/dma-buf.h>
#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/version.h>

/* A name of our own: kernels with a plain vm_flags may gain vm_flags_set(). */
static inline void iospace_vma_flags(struct vm_area_struct *vma,
				     unsigned long set, unsigned long clear)
{
#ifdef IOSPACE_HAVE_VM_FLAGS_SET
	vm_flags_set(vma, set);
	vm_flags_clear(vma, clear);
#else
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#endif
}

/*
 * x86 before 6.16 marks a mapping of RAM as one whose type it tracks, which it
 * does not for RAM, and complains when fork() meets it zapped.
 */
static inline void iospace_vma_untrack(struct vm_area_struct *vma)
{
#ifdef VM_PAT
	iospace_vma_flags(vma, 0, VM_PAT);
#endif
}

/* A member of struct vm_operations_struct. */
#ifndef IOSPACE_HAVE_MAY_SPLIT
#define may_split split
#endif

/* Before 5.16 what has a struct page is refused, and warned of. */
static inline bool iospace_can_map_resource(phys_addr_t start)
{
	return LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0) ||
	       !pfn_valid(PHYS_PFN(start));
}

/*
 * For pages that are mapped by vm_insert_page(), which before 5.11 refuses those
 * that are charged to a memory cgroup.
 */
#ifdef PG_kmemcg
#define IOSPACE_GFP_MAPPED GFP_KERNEL
#else
#define IOSPACE_GFP_MAPPED GFP_KERNEL_ACCOUNT
#endif

/* An address without its tag. On x86 that takes a variable that modules lack. */
static inline unsigned long iospace_untagged(unsigned long address)
{
#ifdef CONFIG_X86
	return address;
#else
	return untagged_addr(address);
#endif
}

/* A variable that is written before it is read, and costs much to be zeroed. */
#if __has_attribute(__uninitialized__)
#define IOSPACE_UNINITIALIZED __attribute__((__uninitialized__))
#else
#define IOSPACE_UNINITIALIZED
#endif

/*
 * A pinned page: may the device write it for as long as it likes? Not one of a
 * file that is written back to a disk: its file system would not know. Since 6.5
 * such a page cannot be pinned for that.
 */
static inline bool iospace_page_may_be_written(struct page *page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	struct address_space *mapping;
	bool may;

	page = compound_head(page);
	rcu_read_lock();
	mapping = READ_ONCE(page->mapping);
	may = !mapping || (unsigned long)mapping & PAGE_MAPPING_FLAGS ||
	      !mapping_can_writeback(mapping);
	rcu_read_unlock();
	return may;
#else
	return true;
#endif
}

static inline void iospace_eventfd_signal(struct eventfd_ctx *eventfd)
{
#ifdef IOSPACE_HAVE_EVENTFD_SIGNAL_1
	eventfd_signal(eventfd);
#else
	eventfd_signal(eventfd, 1);
#endif
}

/* Type of the result of struct platform_driver's remove, and its value. */
#ifdef IOSPACE_HAVE_PLATFORM_REMOVE_VOID
#define IOSPACE_PLATFORM_REMOVE_TYPE void
#define IOSPACE_PLATFORM_REMOVED
#else
#define IOSPACE_PLATFORM_REMOVE_TYPE int
#define IOSPACE_PLATFORM_REMOVED     0
#endif

/* The namespace is a string since 6.13. */
#ifdef IOSPACE_HAVE_IMPORT_NS_STRING
#define IOSPACE_IMPORT_DMA_BUF MODULE_IMPORT_NS("DMA_BUF")
#else
#define IOSPACE_IMPORT_DMA_BUF MODULE_IMPORT_NS(DMA_BUF)
#endif

#ifndef IOSPACE_HAVE_MAP_ATTACHMENT_UNLOCKED
#define dma_buf_map_attachment_unlocked	  dma_buf_map_attachment
#define dma_buf_unmap_attachment_unlocked dma_buf_unmap_attachment
#endif

/* Its name before 5.18. */
#ifdef IOSPACE_HAVE_DMA_BUF_MAP
#define iosys_map	    dma_buf_map
#define iosys_map_set_vaddr dma_buf_map_set_vaddr
#endif

/*
 * Members of struct dma_buf_ops, from functions that take a struct iosys_map:
 * before 5.11 they took and gave the address itself.
 */
#if defined(IOSPACE_HAVE_IOSYS_MAP) || defined(IOSPACE_HAVE_DMA_BUF_MAP)
#define IOSPACE_DMA_BUF_VMAP_OPS(vmap, vunmap)
#define IOSPACE_DMA_BUF_OP(name) name
#else
struct iosys_map {
	void *vaddr;
};

static inline void iosys_map_set_vaddr(struct iosys_map *map, void *vaddr)
{
	map->vaddr = vaddr;
}

#define IOSPACE_DMA_BUF_VMAP_OPS(vmap, vunmap)                         \
	static void *vmap##_op(struct dma_buf *dmabuf)                 \
	{                                                              \
		struct iosys_map map;                                  \
                                                                       \
		return vmap(dmabuf, &map) ? NULL : map.vaddr;          \
	}                                                              \
	static void vunmap##_op(struct dma_buf *dmabuf, void *address) \
	{                                                              \
		struct iosys_map map = { address };                    \
                                                                       \
		vunmap(dmabuf, &map);                                  \
	}
#define IOSPACE_DMA_BUF_OP(name) name##_op
#endif

#ifndef IOSPACE_HAVE_TABLE_FROM_PAGES_SEGMENT
static inline int
sg_alloc_table_from_pages_segment(struct sg_table *table, struct page **pages,
				  unsigned int count, unsigned int offset,
				  unsigned long size, unsigned int max_segment,
				  gfp_t gfp)
{
	return PTR_ERR_OR_ZERO(__sg_alloc_table_from_pages(
		table, pages, count, offset, size, max_segment, NULL, 0, gfp));
}
#endif

/* Of shmem_file_setup(): pages count when they come to be. */
#ifdef IOSPACE_HAVE_SHMEM_VMA_FLAGS
#define IOSPACE_SHMEM_NORESERVE mk_vma_flags(VMA_NORESERVE_BIT)
#else
#define IOSPACE_SHMEM_NORESERVE VM_NORESERVE
#endif

#ifndef PCI_IRQ_INTX
#define PCI_IRQ_INTX PCI_IRQ_LEGACY
#endif

#endif /* IOSPACE_COMPAT_H */
