/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The module's own types, and the functions that its files share.
 *
 *   struct iospace_device   one bound device and its character device
 *   struct iospace_file     one open file of it: owns buffers, subscriptions
 *   struct iospace_account  what it is charged for, even when it has gone
 *   struct iospace_buffer   what has a handle: memory that the device reaches
 *   struct iospace_pages    ordinary memory that a buffer and its dma-bufs share
 *   struct iospace_scatter  a list of pages, as one device sees it
 *   struct iospace_range    physical memory: what a parameter or a caller names
 *   struct iospace_regs     one range of the device's registers
 *   struct iospace_vector   one interrupt of the device
 *
 * Who keeps whom alive: a mapping keeps its file, a file its device structure.
 * The device *behind* the structure may go at any time, and with it every
 * right to call the DMA API, the bus or the registers. Whoever does so has seen
 * that it is not dead since iospace_device_enter(), and before _exit(); or holds
 * a lock under which iospace_device_remove() takes the thing away.
 *
 * Locks, outermost first:
 *
 *   open_lock      first open and last close of a device, its list of files
 *   mmap_lock      of a process; under it no user memory may be touched
 *   memory_lock    a device's lists of buffers and of what it exported, and
 *                  their memory
 *   window_lock    all open windows, of all devices
 *   range_lock     what they have claimed of physical memory
 *   dma_lock       what the DMA API knows of a device, and its allocations
 *   (the reservation lock of a dma-buf: dma_resv_lock(). The kernel takes it
 *   around the operations of ours)
 *   share_lock     what other devices see of a dma-buf of ours
 *   register_lock  the kernel's own mappings of register ranges
 *   books_lock     the files of the arenas' books
 *   irq_lock       vectors and subscriptions; taken in interrupt handlers
 *   mms_lock       who maps a file
 *   charge_lock    all byte counts
 */
#ifndef IOSPACE_H
#define IOSPACE_H

#include <linux/dma-direction.h>
#include <linux/ioport.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/pgtable.h>
#include <linux/poll.h>
#include <linux/rbtree.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "uapi/iospace.h"

#define IOSPACE_MAX_REGS    16
#define IOSPACE_MAX_VECTORS 32
#define IOSPACE_MAX_ARENAS  16

struct device;
struct dma_buf;
struct eventfd_ctx;
struct iospace_device;
struct vm_area_struct;

/**
 * struct iospace_bus_ops - What a binder does for a device
 * @bus: Kind of bus
 * @start: Before the first open file can use the device
 * @quiesce: After the last one; returns when the device no longer writes to
 *           memory. @unbinding: in remove, with the device's lock held.
 *           Return: whether what the device had begun is over for good, and
 *           will not go on at the next start
 * @disable: Undoes what the binder did before iospace_device_publish()
 */
struct iospace_bus_ops {
	enum iospace_bus bus;
	int (*start)(struct iospace_device *idev);
	bool (*quiesce)(struct iospace_device *idev, bool unbinding);
	void (*disable)(struct iospace_device *idev);
};

/**
 * struct iospace_range - Physical memory
 * @start: First byte
 * @end: Last byte
 */
struct iospace_range {
	u64 start;
	u64 end;
};

/**
 * struct iospace_attachment - Where a device sees an arena
 * @attached: It was asked for
 * @mapped: In the device's IOMMU
 * @addr: Its first byte
 */
struct iospace_attachment {
	bool attached;
	bool mapped;
	dma_addr_t addr;
};

/**
 * struct iospace_regs - One range of the device's registers
 * @start: Physical address, or first port
 * @length: Bytes; 0 for an index that the device does not have
 * @flags: enum iospace_registers_flags
 * @name: As in struct iospace_registers; may be NULL
 * @before: Claims what comes before the range in its first page
 * @after: Claims what comes after the range in its last page
 * @base: Kernel mapping, made at the first use, kept until the last close;
 *        under register_lock
 */
struct iospace_regs {
	resource_size_t start;
	resource_size_t length;
	u32 flags;
	const char *name;
	struct resource before;
	struct resource after;
	void __iomem *base;
};

/**
 * struct iospace_pool_region - The device's own memory
 * @kind: IOSPACE_POOL_NONE: it has none, and the other members are 0
 * @start: Physical address
 * @bytes: Size
 */
struct iospace_pool_region {
	enum iospace_pool kind;
	phys_addr_t start;
	u64 bytes;
};

/**
 * struct iospace_dma_setting - What drivers set of a device, for the DMA API
 * @mask: Where its mask is; may be NULL
 * @mask_value: The mask
 * @coherent_mask: That of coherent memory
 * @max_segment: Longest segment, in bytes
 */
struct iospace_dma_setting {
	u64 *mask;
	u64 mask_value;
	u64 coherent_mask;
	unsigned int max_segment;
};

struct iospace_vector;

/**
 * struct iospace_vector_ops - How one kind of interrupt is masked
 * @request_flags: For request_irq()
 * @level: Stays asserted until the device is served, so it is masked when it
 *         fires. The other members are for level-triggered vectors only
 * @born_masked: request_irq() leaves the line masked
 * @claim: In the handler: was it this device? Then masks the line
 * @mask: Masks the line
 * @unmask: Unmasks the line
 */
struct iospace_vector_ops {
	unsigned long request_flags;
	bool level;
	bool born_masked;
	bool (*claim)(struct iospace_vector *vector);
	void (*mask)(struct iospace_vector *vector);
	void (*unmask)(struct iospace_vector *vector);
};

/**
 * struct iospace_vector - One interrupt of the device
 * @idev: Its device
 * @ops: Its kind
 * @irq: The kernel's number
 * @line: The first vector of this @irq: itself, unless the device names one
 *        line several times. It alone is requested, and has @fired and @masked
 * @name: As in struct iospace_interrupt; may be NULL
 * @fired: A level-triggered line fired, and no ENABLE came since
 * @masked: The line is masked: it fired, or nobody wants it
 * @count: Interrupts since the device was bound
 * @subscriptions: Of files that have it enabled
 */
struct iospace_vector {
	struct iospace_device *idev;
	const struct iospace_vector_ops *ops;
	unsigned int irq;
	struct iospace_vector *line;
	const char *name;
	bool fired;
	bool masked;
	u64 count;
	struct list_head subscriptions;
};

/**
 * struct iospace_subscription - One file's interest in one vector
 * @node: In the vector's list; empty while disabled
 * @file: Its file
 * @count: Interrupts while enabled
 * @eventfd: Signalled at each, or NULL
 */
struct iospace_subscription {
	struct list_head node;
	struct iospace_file *file;
	u64 count;
	struct eventfd_ctx *eventfd;
};

/**
 * struct iospace_account - What an open file is charged for
 * @kref: Held by the file and by each charge
 * @idev: Its device, with a reference
 * @bytes: The sum of its charges
 */
struct iospace_account {
	struct kref kref;
	struct iospace_device *idev;
	u64 bytes;
};

/**
 * struct iospace_charge - Bytes that somebody is charged for
 * @account: Who; NULL when it was moved or has ended
 * @bytes: How many
 * @kept: Bytes of others that it keeps. While it is held nobody else counts them
 * @held: For what waits for the last close; @kept is a part of @bytes then
 */
struct iospace_charge {
	struct iospace_account *account;
	size_t bytes;
	size_t kept;
	bool held;
};

/**
 * struct iospace_device - One bound device
 * @kref: Held by the binding, and by each open file, account and export
 * @id: The N of iospaceN
 * @name: "iospaceN"
 * @dev: The device; valid until remove has ended
 * @ops: Its binder's
 * @bus_data: Its binder's
 * @misc: The character device
 * @srcu: Read-held between iospace_device_enter() and iospace_device_exit()
 * @dead: Remove has begun
 * @started: The binder's start succeeded, quiesce is to come; under open_lock
 * @ended: What quiesce said last; true before the first start
 * @status: The page that IOSPACE_STATUS_OFFSET shows
 * @found: How the device was found, and is left
 * @pool: Where its memory comes from; fixed before it is published
 * @bytes: Charged for buffers
 * @held_bytes: The part of @bytes that waits for the last close
 * @open_lock: See the top of this file
 * @files: Open files; under open_lock
 * @memory_lock: See the top of this file
 * @buffers: Buffers that are not released; under memory_lock
 * @exports: Dma-bufs of its memory; under memory_lock
 * @arenas: Where it sees each arena; under memory_lock
 * @chunks: Converted pages that it has; under memory_lock
 * @converted_bytes: Their size
 * @dma_lock: See the top of this file
 * @dma_mask: Highest bus address that it reaches. To the DMA API it is less during
 *            an allocation that asks for that
 * @max_segment: Longest segment that it can be given, in bytes
 * @register_lock: See the top of this file
 * @regs_count: Of @regs, up to the last that is not empty
 * @regs: Register ranges
 * @irq_lock: See the top of this file
 * @irq_wait: Readers and pollers
 * @vector_count: Of @vectors
 * @vectors: Interrupts
 */
struct iospace_device {
	struct kref kref;
	int id;
	char name[20];
	struct device *dev;
	const struct iospace_bus_ops *ops;
	void *bus_data;
	struct miscdevice misc;
	struct srcu_struct srcu;
	bool dead;
	bool started;
	bool ended;
	struct iospace_status *status;
	struct iospace_dma_setting found;
	struct iospace_pool_region pool;
	u64 bytes;
	u64 held_bytes;

	struct mutex open_lock; /* see the top of this file */
	struct list_head files;

	struct mutex memory_lock; /* see the top of this file */
	struct list_head buffers;
	struct list_head exports;
	struct iospace_attachment arenas[IOSPACE_MAX_ARENAS];
	struct list_head chunks;
	u64 converted_bytes;

	struct mutex dma_lock; /* see the top of this file */
	u64 dma_mask;
	size_t max_segment;

	struct mutex register_lock; /* see the top of this file */
	unsigned int regs_count;
	struct iospace_regs regs[IOSPACE_MAX_REGS];

	spinlock_t irq_lock; /* see the top of this file */
	wait_queue_head_t irq_wait;
	unsigned int vector_count;
	struct iospace_vector vectors[IOSPACE_MAX_VECTORS];
};

/**
 * struct iospace_lowered_mask - What iospace_device_lower_mask() changed
 * @mask: The device's own
 * @addr: A bus address that was taken for the while, or DMA_MAPPING_ERROR
 */
struct iospace_lowered_mask {
	u64 mask;
	dma_addr_t addr;
};

/**
 * struct iospace_mappings - Memory of its processes that a file has mapped
 * @count: Mappings
 * @read: Those that the device only reads, by address
 * @written: The others
 */
struct iospace_mappings {
	unsigned int count;
	struct rb_root_cached read;
	struct rb_root_cached written;
};

/**
 * struct iospace_file - One open file
 * @idev: Its device
 * @filp: The file itself
 * @node: In the device's list of files
 * @account: Who is charged for its buffers
 * @buffers: By handle; lookups take their reference under its lock
 * @mappings: Of its processes' memory; under memory_lock
 * @mms: Address spaces that ever mapped this file; added to between
 *       iospace_device_enter() and _exit(), under @mms_lock
 * @mms_lock: For @mms
 * @zeros: What a mapping of memory shows when the device is gone
 * @ones: What a mapping of registers shows then
 * @events: Interrupts of all vectors; under irq_lock, as @seen
 * @seen: @events at the last read()
 * @subscriptions: One for each vector of the device
 */
struct iospace_file {
	struct iospace_device *idev;
	struct file *filp;
	struct list_head node;
	struct iospace_account *account;
	struct xarray buffers;
	struct iospace_mappings mappings;
	struct list_head mms;
	spinlock_t mms_lock; /* see the top of this file */
	struct page *zeros;
	struct page *ones;
	u64 events;
	u64 seen;
	struct iospace_subscription subscriptions[];
};

struct iospace_buffer;
struct iospace_pages;

/**
 * struct iospace_buffer_ops - How one kind of memory is mapped and given back
 * @release: Gives the memory back, once, with memory_lock held. The device lives,
 *           or is being removed and is quiet
 * @mmap: Maps the buffer from its start; ->vm_pgoff is 0. Sets the flags of the
 *        mapping that its kind needs. Without it the buffer cannot be mapped
 * @fault: While the device lives: brings the buffer's page @page. Without it
 *         such a fault is SIGBUS
 * @segments: Writes segments @first to @first + @count - 1, which there are.
 *            Without it the device has no address of it: a window
 * @sync: As in struct iospace_sync, on a range that was checked. Only of kinds of
 *        which a buffer may need it
 * @turn: In place of @sync: hands over all of it. Return: 0; ENODEV when the device
 *        is dead, or an error of the exporter's
 * @pages: Its pages; with memory_lock held. Without it there are none that a dma-buf
 *         could have
 *
 * All but @release and @turn run between iospace_device_enter() and _exit(), on a
 * device that is not dead. @turn waits for other drivers, and enters in between.
 */
struct iospace_buffer_ops {
	void (*release)(struct iospace_buffer *buffer);
	int (*mmap)(struct iospace_buffer *buffer, struct vm_area_struct *vma);
	vm_fault_t (*fault)(struct iospace_buffer *buffer, struct vm_fault *vmf,
			    unsigned long page);
	void (*segments)(struct iospace_buffer *buffer, unsigned int first,
			 unsigned int count, struct iospace_segment *to);
	void (*sync)(struct iospace_buffer *buffer, u64 offset, u64 length,
		     u32 flags);
	int (*turn)(struct iospace_buffer *buffer, u32 flags);
	struct iospace_pages *(*pages)(struct iospace_buffer *buffer);
};

/**
 * struct iospace_buffer - What has a handle: memory that the device reaches, or
 *                         a window. The first member of its kind's structure
 * @kref: Held by the handle, by each mapping, and by imports of what was exported
 *        of it; what is held back keeps the handle's
 * @idev: Its device
 * @file: Where it gets its handle; may have gone afterwards
 * @node: In the device's list until it is released
 * @ops: Its kind
 * @memory: Type in effect
 * @direction: Who writes it: both, if nothing else was asked for
 * @size: Bytes; whole pages of what can be mapped
 * @charge: What it counts for
 * @segment_count: Of its ops' segments
 * @needs_sync: As IOSPACE_ALLOC_NEEDS_SYNC
 * @line_mask: Bits of an offset in a cache line, which no SYNC may divide; else 0
 * @released: The memory was given back; under memory_lock
 * @published: User space was told its handle; under the lock of the handles
 */
struct iospace_buffer {
	struct kref kref;
	struct iospace_device *idev;
	struct iospace_file *file;
	struct list_head node;
	const struct iospace_buffer_ops *ops;
	enum iospace_memory memory;
	enum dma_data_direction direction;
	size_t size;
	struct iospace_charge charge;
	unsigned int segment_count;
	bool needs_sync;
	unsigned int line_mask;
	bool released;
	bool published;
};

/**
 * struct iospace_demand - What the segments of a scatter must be
 * @limit: Highest bus address
 * @align: Of each segment's address; 1 for any, and else at least a page
 * @boundary: Which no segment crosses a multiple of; 0 for none
 * @one_block: All of it is one block of the page allocator, and one segment
 * @translating: Behind an IOMMU, which puts scattered pages together
 */
struct iospace_demand {
	u64 limit;
	size_t align;
	u64 boundary;
	bool one_block;
	bool translating;
};

struct iospace_piece;

/**
 * struct iospace_scatter - A list of pages, as one device sees it
 * @idev: The device
 * @direction: Who writes it
 * @offset: Where in the first page it begins
 * @size: Its bytes
 * @table: The mapping, if it is its own
 * @pieces: Its segments, and one more with the offset of its end
 * @segment_count: How many
 * @needs_sync: As IOSPACE_ALLOC_NEEDS_SYNC
 */
struct iospace_scatter {
	struct iospace_device *idev;
	enum dma_data_direction direction;
	size_t offset;
	size_t size;
	struct sg_table table;
	struct iospace_piece *pieces;
	unsigned int segment_count;
	bool needs_sync;
};

/**
 * struct iospace_pages - Ordinary memory that a buffer and its dma-bufs share
 * @buffer: The buffer, until it is released
 * @scatter: What its device sees of them, until then
 * @users: The buffer, and dma-bufs
 * @charge: From then on
 * @count: Of @array
 * @array: The pages
 *
 * Under memory_lock, but for @count and @array, which stay.
 */
struct iospace_pages {
	struct iospace_buffer *buffer;
	const struct iospace_scatter *scatter;
	unsigned int users;
	struct iospace_charge charge;
	unsigned long count;
	struct page *array[];
};

/**
 * struct iospace_export_call - What the handler of EXPORT leaves to its finish
 * @export: What user space sees
 * @dmabuf: What @export's descriptor is to be of
 */
struct iospace_export_call {
	struct iospace_export export;
	struct dma_buf *dmabuf;
};

/**
 * struct iospace_books_call - What the handler of ARENA_BOOKS leaves to its finish
 * @books: What user space sees
 * @opened: What @books' descriptor is to be of
 */
struct iospace_books_call {
	struct iospace_arena_books books;
	struct file *opened;
};

/* device.c */
static inline bool iospace_device_is_dead(struct iospace_device *idev)
{
	/* With it comes what remove wrote before: the status page. */
	return smp_load_acquire(&idev->dead);
}

/*
 * A device that is not dead in between can be used until exit: remove waits. So
 * nothing in between may wait for user space.
 */
static inline int iospace_device_enter(struct iospace_device *idev)
	__acquires(&idev->srcu)
{
	return srcu_read_lock(&idev->srcu);
}

static inline void iospace_device_exit(struct iospace_device *idev, int index)
	__releases(&idev->srcu)
{
	srcu_read_unlock(&idev->srcu, index);
}

struct iospace_device *iospace_device_create(struct device *dev,
					     const struct iospace_bus_ops *ops,
					     void *bus_data, int first_id);
int iospace_device_publish(struct iospace_device *idev);
void iospace_device_abort(struct iospace_device *idev);
void iospace_device_end(struct iospace_device *idev);
void iospace_device_remove(struct iospace_device *idev);
int iospace_device_start(struct iospace_device *idev);
void iospace_device_stop(struct iospace_device *idev, bool unbinding);
void iospace_device_drain(struct iospace_device *idev);
void iospace_device_put(struct iospace_device *idev);
enum iospace_iommu iospace_device_iommu_of(struct device *dev);
enum iospace_iommu iospace_device_iommu(struct iospace_device *idev);
u32 iospace_device_memory_types(struct iospace_device *idev);
u64 iospace_device_limit(struct iospace_device *idev, u32 address_bits);
void iospace_device_lower_mask(struct iospace_device *idev, u64 limit,
			       struct iospace_lowered_mask *lowered);
void iospace_device_restore_mask(struct iospace_device *idev,
				 const struct iospace_lowered_mask *lowered);
int iospace_device_set_dma_mask(struct iospace_device *idev, u64 mask);
void iospace_device_describe(struct iospace_device *idev,
			     struct iospace_info *info);
int iospace_device_info(struct iospace_file *file, void *args);

/* charge.c */
extern unsigned long iospace_max_file_bytes;
extern unsigned long iospace_max_total_bytes;
struct iospace_account *iospace_account_create(struct iospace_device *idev);
void iospace_account_put(struct iospace_account *account);
void iospace_charge_begin(struct iospace_charge *charge,
			  struct iospace_account *account);
int iospace_charge_more(struct iospace_charge *charge, size_t bytes);
void iospace_charge_hold(struct iospace_charge *charge);
void iospace_charge_move(struct iospace_charge *to,
			 struct iospace_charge *from);
void iospace_charge_end(struct iospace_charge *charge);
u64 iospace_charge_bytes(struct iospace_device *idev);
u64 iospace_charge_held_bytes(struct iospace_device *idev);

/* buffer.c */
int iospace_buffer_init(struct iospace_buffer *buffer,
			struct iospace_file *file,
			const struct iospace_buffer_ops *ops,
			enum iospace_memory memory, size_t size,
			size_t charged);
void iospace_buffer_abort(struct iospace_buffer *buffer);
enum dma_data_direction iospace_buffer_direction(u32 direction);
int iospace_buffer_add(struct iospace_buffer *buffer, u32 *handle);
void iospace_buffer_publish(struct iospace_file *file, u32 handle,
			    bool answered);
int iospace_buffer_alloc(struct iospace_file *file, void *args);
void iospace_buffer_alloc_finish(struct iospace_file *file, void *args,
				 bool answered);
int iospace_buffer_free(struct iospace_file *file, void *args);
int iospace_buffer_segments(struct iospace_file *file, void *args);
int iospace_buffer_sync(struct iospace_file *file, void *args);
int iospace_buffer_sync_ranges(struct iospace_file *file, void *args);
struct iospace_buffer *iospace_buffer_get(struct iospace_file *file,
					  u32 handle);
void iospace_buffer_put(struct iospace_buffer *buffer);
void iospace_buffer_put_locked(struct iospace_buffer *buffer);
void iospace_buffer_close_file(struct iospace_file *file, bool last);
void iospace_buffer_drain(struct iospace_device *idev);

/* pool.c */
int iospace_pool_init(struct iospace_device *idev);
void iospace_pool_release(struct iospace_device *idev);
bool iospace_pool_holds(struct iospace_device *idev, phys_addr_t start,
			u64 length);
u32 iospace_pool_memory_types(struct iospace_device *idev);

/* coherent.c */
u32 iospace_coherent_memory_types(struct iospace_device *idev);
struct iospace_buffer *
iospace_coherent_alloc(struct iospace_file *file,
		       const struct iospace_alloc *alloc);

/* scatter.c */
int iospace_scatter_map(struct iospace_scatter *scatter, struct page **pages,
			size_t length, const struct iospace_demand *demand);
void iospace_scatter_unmap(struct iospace_scatter *scatter, bool take);
int iospace_scatter_note(struct iospace_scatter *scatter,
			 struct sg_table *table);
void iospace_scatter_forget(struct iospace_scatter *scatter);
void iospace_scatter_segments(const struct iospace_scatter *scatter,
			      unsigned int first, unsigned int count,
			      struct iospace_segment *to);
int iospace_scatter_slice(struct iospace_scatter *slice,
			  const struct iospace_scatter *whole, u64 offset);
void iospace_scatter_sync(const struct iospace_scatter *scatter, u64 offset,
			  u64 length, u32 flags);

/* pages.c */
struct iospace_pages *iospace_pages_create(unsigned long count);
void iospace_pages_clear(struct iospace_pages *pages);
void iospace_pages_put(struct iospace_pages *pages);

/* cached.c */
struct iospace_buffer *iospace_cached_alloc(struct iospace_file *file,
					    const struct iospace_alloc *alloc);

/* user.c */
extern unsigned int iospace_max_file_mappings;
int iospace_user_map(struct iospace_file *file, void *args);
void iospace_user_finish(struct iospace_file *file, void *args, bool answered);

/* zone.c */
u32 iospace_zone_all(void);
gfp_t iospace_zone_gfp(enum iospace_zone zone);
u64 iospace_zone_limit(enum iospace_zone zone);
u64 iospace_zone_least_limit(void);
int iospace_zone_lower(enum iospace_zone *zone);
bool iospace_zone_has(enum iospace_zone zone, const struct page *page);

/* memtype.c */
u32 iospace_memtype_all(void);
pgprot_t iospace_memtype_prot(enum iospace_memory memory, pgprot_t prot);
bool iospace_memtype_is(const void *address, enum iospace_memory memory);
bool iospace_memtype_side_by_side(void);
void __iomem *iospace_memtype_reserve(phys_addr_t start, size_t size,
				      enum iospace_memory memory);
void iospace_memtype_unreserve(void __iomem *base);
void iospace_memtype_flush(void *base, size_t size);

/* range.c */
int iospace_range_init(void);
u64 iospace_range_limit(void);
u64 iospace_range_size(const struct iospace_range *range);
const char *iospace_range_make(struct iospace_range *range, u64 start,
			       u64 size);
int iospace_range_parse(const char *name, const char *text,
			const char *(*add)(const struct iospace_range *range));
bool iospace_range_contains(const struct iospace_range *outer,
			    const struct iospace_range *inner);
bool iospace_range_overlaps(const struct iospace_range *a,
			    const struct iospace_range *b);
bool iospace_range_is_ram(const struct iospace_range *range);
bool iospace_range_is_allowed(const struct iospace_range *range);
bool iospace_range_may_access(void);
int iospace_range_claim(const struct iospace_range *range);
void iospace_range_unclaim(const struct iospace_range *range);

/* arena.c */
extern unsigned long iospace_arena_reserve;
extern unsigned int iospace_arena_max_blocks;
int iospace_arena_init(void);
void iospace_arena_exit(void);
unsigned int iospace_arena_count(void);
u64 iospace_arena_bytes(u32 index);
bool iospace_arena_contains(const struct iospace_range *range);
bool iospace_arena_overlaps(const struct iospace_range *range);
int iospace_arena_describe(struct iospace_file *file, void *args);
void iospace_arena_detach_all(struct iospace_device *idev);

/* books.c */
int iospace_books_open(struct iospace_file *file, void *args);
void iospace_books_finish(struct iospace_file *file, void *args, bool answered);
void iospace_books_exit(void);

/* window.c */
int iospace_window_open(struct iospace_file *file, void *args);
void iospace_window_finish(struct iospace_file *file, void *args,
			   bool answered);

/* converted.c */
#ifdef CONFIG_X86_64
u32 iospace_converted_memory_types(void);
u64 iospace_converted_limit(void);
struct iospace_buffer *
iospace_converted_alloc(struct iospace_file *file,
			const struct iospace_alloc *alloc);
void iospace_converted_drain(struct iospace_device *idev);
#else
static inline u32 iospace_converted_memory_types(void)
{
	return 0;
}
static inline u64 iospace_converted_limit(void)
{
	return 0;
}
static inline struct iospace_buffer *
iospace_converted_alloc(struct iospace_file *file,
			const struct iospace_alloc *alloc)
{
	return ERR_PTR(-EOPNOTSUPP);
}
static inline void iospace_converted_drain(struct iospace_device *idev) {}
#endif

/* export.c, import.c */
#ifdef CONFIG_DMA_SHARED_BUFFER
int iospace_export_open(struct iospace_file *file, void *args);
void iospace_export_finish(struct iospace_file *file, void *args,
			   bool answered);
struct iospace_buffer *iospace_export_original(struct dma_buf *dmabuf,
					       struct iospace_device *idev,
					       struct iospace_scatter *slice);
bool iospace_export_is_mapped(struct iospace_device *idev,
			      const struct vm_area_struct *vma);
void iospace_export_revoke(struct iospace_device *idev);
int iospace_import_open(struct iospace_file *file, void *args);
void iospace_import_finish(struct iospace_file *file, void *args,
			   bool answered);
#else
static inline int iospace_export_open(struct iospace_file *file, void *args)
{
	return -EOPNOTSUPP;
}
static inline void iospace_export_finish(struct iospace_file *file, void *args,
					 bool answered)
{
}
static inline bool iospace_export_is_mapped(struct iospace_device *idev,
					    const struct vm_area_struct *vma)
{
	return false;
}
static inline void iospace_export_revoke(struct iospace_device *idev) {}
static inline int iospace_import_open(struct iospace_file *file, void *args)
{
	return -EOPNOTSUPP;
}
static inline void iospace_import_finish(struct iospace_file *file, void *args,
					 bool answered)
{
}
#endif

/* registers.c */
int iospace_regs_claim(struct iospace_device *idev, unsigned int index,
		       const struct resource *res, const char *name);
void iospace_regs_release_all(struct iospace_device *idev);
void iospace_regs_unmap_all(struct iospace_device *idev);
struct iospace_regs *iospace_regs_find(struct iospace_device *idev, u32 index);
const struct iospace_regs *
iospace_regs_around(struct iospace_device *idev,
		    const struct iospace_range *range);
void __iomem *iospace_regs_base(struct iospace_device *idev,
				struct iospace_regs *regs);
int iospace_regs_describe(struct iospace_file *file, void *args);
int iospace_regs_access(struct iospace_file *file, void *args);

/* mmap.c */
/* Largest buffer that an offset can name. */
#define IOSPACE_MMAP_MAX_BUFFER min_t(u64, 1ULL << 38, LONG_MAX & PAGE_MASK)
u64 iospace_mmap_offset_of_regs(unsigned int index);
u64 iospace_mmap_offset_of_handle(u32 handle);
struct xa_limit iospace_mmap_handles(size_t size);
int iospace_mmap(struct file *filp, struct vm_area_struct *vma);
int iospace_mmap_open_file(struct iospace_file *file);
void iospace_mmap_close_file(struct iospace_file *file);
void iospace_mmap_revoke(struct iospace_file *file);

/* irq.c */
extern const struct iospace_vector_ops iospace_edge_ops;
extern const struct iospace_vector_ops iospace_line_ops;
void iospace_vector_add(struct iospace_device *idev,
			const struct iospace_vector_ops *ops, unsigned int irq,
			const char *name);
int iospace_irq_request(struct iospace_device *idev);
void iospace_irq_free(struct iospace_device *idev);
void iospace_irq_subscribe(struct iospace_file *file);
void iospace_irq_unsubscribe(struct iospace_file *file);
void iospace_irq_update(struct iospace_device *idev);
int iospace_irq_control(struct iospace_file *file, void *args);
ssize_t iospace_irq_read(struct file *filp, char __user *to, size_t length,
			 loff_t *position);
__poll_t iospace_irq_poll(struct file *filp, poll_table *wait);

/* sysfs.c */
extern const struct attribute_group *iospace_sysfs_groups[];

/* main.c */
extern const struct file_operations iospace_file_operations;

/* bind_pci.c, bind_platform.c */
#ifdef CONFIG_PCI
int iospace_bind_pci_init(void);
void iospace_bind_pci_exit(void);
#else
static inline int iospace_bind_pci_init(void)
{
	return 0;
}
static inline void iospace_bind_pci_exit(void) {}
#endif
int iospace_bind_platform_init(void);
void iospace_bind_platform_exit(void);

#endif /* IOSPACE_H */
