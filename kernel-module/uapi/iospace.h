/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * The contract between the iospace kernel module and user space.
 *
 * Each DMA-capable device that iospace drives has a character device,
 * /dev/iospaceN. A program opens it, asks with INFO what the device and this
 * machine can do, allocates memory that the device reaches, opens windows on
 * physical memory that the system does not use, maps the device's registers,
 * and reads or polls the file for interrupts. Everything a program obtains
 * belongs to the open file description and is given back with it: when the last
 * descriptor is closed and the last mapping, those of child processes included,
 * is gone.
 *
 * Rules for every ioctl
 *
 * - The argument points to the structure of the call. Its first member is
 *   @size, in bytes: sizeof() as the caller knows it. A larger structure than
 *   the module's is accepted if its tail is zero (else E2BIG); a smaller one
 *   than the first published is EINVAL. Members unknown to the caller count as
 *   zero. This is why the numbers are made by _IO(): the size is a field, so a
 *   number survives the growth of its structure.
 * - Unknown flags, unknown enumerators and reserved members that are not zero
 *   are errors. Members named out_... are written by the module and are
 *   ignored on input.
 * - The layout is the same for 32-bit and 64-bit programs. Sizes, lengths and
 *   offsets are bytes.
 * - Each errno means one thing:
 *     EINVAL      malformed: a size, flag, reserved member, index, width,
 *                 alignment or range that is never valid
 *     E2BIG       a structure newer than the module, with a tail not zero
 *     EOPNOTSUPP  well formed, but this device or machine cannot give it
 *     ENOENT      this open file has no such handle, register index or vector
 *     EBADF       @eventfd or @fd is not an open descriptor
 *     EBUSY       in use by someone else, or by you in another memory type
 *     ENOSPC      the device's own pool is full, or the bounce buffers are; or this
 *                 open file has no handle left for memory of that size
 *     ENOMEM      the machine has no such memory left; or the process may not pin
 *                 that much
 *     EDQUOT      over a limit of the module (see out_max_file_bytes)
 *     EMFILE      the process has no descriptor left
 *     EPERM       not allowed: a range that nobody declared, or a privilege that
 *                 the caller lacks
 *     EACCES      the descriptor was not opened for it: for writing registers or
 *                 books, for a protection of mmap(), for a device that writes; a
 *                 writable status page
 *     EAGAIN      read: nothing to read yet, and the descriptor is O_NONBLOCK
 *     EINTR       read: a signal came while it waited
 *     EFAULT      the argument, or memory that it names, is not readable or not
 *                 writable, or not memory
 *     ENODEV      the device is gone (unbound or unplugged)
 *     ENOTTY      no such call
 *
 * mmap
 *
 * ALLOC, WINDOW and REGISTERS answer with an opaque out_mmap_offset below 2^44,
 * valid for the same open file only. A mapping begins exactly there, is MAP_SHARED,
 * not PROT_EXEC, and no longer than the object rounded up to whole pages
 * (otherwise EINVAL; EACCES for a protection that the descriptor was not
 * opened for). It survives fork. Offset 0 is the status page, see struct
 * iospace_status.
 *
 * When the device goes, each mapping stays: memory reads as zeros, registers
 * read as all ones as those of a removed PCI function do, and no signal is
 * raised. What is written then reaches no device and no other file; it may be
 * read back.
 *
 * read and poll
 *
 * The file counts interrupts, for each vector from the moment of its open().
 * read() of 8 * n bytes returns the counts of vectors 0 to n - 1 as an array
 * of __u64, n from 1 to out_vectors (else EINVAL); where the device has no
 * interrupt it is EOPNOTSUPP. It blocks, unless O_NONBLOCK (EAGAIN), until a
 * vector has counted since this file's last read(). poll() reports EPOLLIN
 * under the same condition and EPOLLHUP | EPOLLERR once the device is gone;
 * read() is ENODEV then. Counts are never lost: a slow reader sees how far
 * they moved.
 */
#ifndef _UAPI_IOSPACE_H
#define _UAPI_IOSPACE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IOSPACE_TYPE 0xd5

/** The module's version: major << 16 | minor << 8 | patch. */
#define IOSPACE_VERSION 0x000100

enum iospace_command {
	IOSPACE_CMD_INFO = 0x00,
	IOSPACE_CMD_ALLOC,
	IOSPACE_CMD_FREE,
	IOSPACE_CMD_REGISTERS,
	IOSPACE_CMD_REGISTER_ACCESS,
	IOSPACE_CMD_INTERRUPT,
	IOSPACE_CMD_SEGMENTS,
	IOSPACE_CMD_SYNC,
	IOSPACE_CMD_ARENA,
	IOSPACE_CMD_WINDOW,
	IOSPACE_CMD_MAP_USER,
	IOSPACE_CMD_SYNC_RANGES,
	IOSPACE_CMD_EXPORT,
	IOSPACE_CMD_IMPORT,
	IOSPACE_CMD_ARENA_BOOKS,
};

/**
 * enum iospace_memory - What memory is to the CPU
 * @IOSPACE_MEMORY_CACHED: Ordinary write-back pages, perhaps scattered. Needs
 *                         SYNC where ALLOC says IOSPACE_ALLOC_NEEDS_SYNC
 * @IOSPACE_MEMORY_WRITECOMBINE: In no cache; writes may be gathered
 * @IOSPACE_MEMORY_UNCACHED: In no cache. On all but x86 the same as
 *                           IOSPACE_MEMORY_WRITECOMBINE
 * @IOSPACE_MEMORY_WRITETHROUGH: Cached reads, writes go through. Windows only
 * @IOSPACE_MEMORY_COHERENT: Whatever makes this device and the CPU agree with
 *                           no further call; contiguous for the device. Buffers
 *                           only
 * @IOSPACE_MEMORY_DEVICE: Registers: strictly ordered, of exact width. Windows
 *                         only
 */
enum iospace_memory {
	IOSPACE_MEMORY_CACHED = 1,
	IOSPACE_MEMORY_WRITECOMBINE = 2,
	IOSPACE_MEMORY_UNCACHED = 3,
	IOSPACE_MEMORY_WRITETHROUGH = 4,
	IOSPACE_MEMORY_COHERENT = 5,
	IOSPACE_MEMORY_DEVICE = 6,
};

/**
 * enum iospace_zone - Where in physical memory a buffer lies
 * @IOSPACE_ZONE_ANY: Wherever the device reaches
 * @IOSPACE_ZONE_DMA: In the zone of the most limited devices: below 16 MiB on
 *                    x86, below 1 or 4 GiB on arm64 boards
 * @IOSPACE_ZONE_DMA32: Below 4 GiB
 * @IOSPACE_ZONE_NORMAL: Above those zones
 *
 * Physical memory, not bus addresses: behind a translating IOMMU a buffer's bus
 * address says nothing about its zone.
 */
enum iospace_zone {
	IOSPACE_ZONE_ANY = 0,
	IOSPACE_ZONE_DMA = 1,
	IOSPACE_ZONE_DMA32 = 2,
	IOSPACE_ZONE_NORMAL = 3,
};

/**
 * enum iospace_pool - The device's own memory, from "memory-region"
 * @IOSPACE_POOL_NONE: None: buffers come from the system's memory
 * @IOSPACE_POOL_COHERENT: "shared-dma-pool" with "no-map"
 * @IOSPACE_POOL_CMA: "shared-dma-pool" with "reusable"
 */
enum iospace_pool {
	IOSPACE_POOL_NONE = 0,
	IOSPACE_POOL_COHERENT = 1,
	IOSPACE_POOL_CMA = 2,
};

/**
 * enum iospace_bus - What kind of device stands behind the file
 * @IOSPACE_BUS_NONE: The module's own device, iospace0: memory, no hardware
 * @IOSPACE_BUS_PCI: A PCI function
 * @IOSPACE_BUS_PLATFORM: A platform device, device-tree nodes included
 */
enum iospace_bus {
	IOSPACE_BUS_NONE = 0,
	IOSPACE_BUS_PCI = 1,
	IOSPACE_BUS_PLATFORM = 2,
};

/**
 * enum iospace_iommu - What stands between the device and memory
 * @IOSPACE_IOMMU_NONE: Nothing: the device reaches all of its DMA mask
 * @IOSPACE_IOMMU_IDENTITY: An IOMMU that passes addresses through; protects
 *                          nothing
 * @IOSPACE_IOMMU_TRANSLATING: An IOMMU that maps what was allocated and
 *                             refuses the rest
 */
enum iospace_iommu {
	IOSPACE_IOMMU_NONE = 0,
	IOSPACE_IOMMU_IDENTITY = 1,
	IOSPACE_IOMMU_TRANSLATING = 2,
};

/**
 * enum iospace_direction - Who writes memory that is mapped for the device
 * @IOSPACE_DIRECTION_TO_DEVICE: The CPU; the device only reads
 * @IOSPACE_DIRECTION_FROM_DEVICE: The device
 * @IOSPACE_DIRECTION_BIDIRECTIONAL: Both, in turn
 */
enum iospace_direction {
	IOSPACE_DIRECTION_TO_DEVICE = 1,
	IOSPACE_DIRECTION_FROM_DEVICE = 2,
	IOSPACE_DIRECTION_BIDIRECTIONAL = 3,
};

/**
 * struct iospace_info - ioctl(IOSPACE_INFO)
 * @size: sizeof(struct iospace_info)
 * @flags: Must be 0
 * @out_version: IOSPACE_VERSION of the module
 * @out_bus: enum iospace_bus
 * @out_iommu: enum iospace_iommu
 * @out_coherent: 1 if the device snoops the CPU's caches, else 0
 * @out_memory_types: Bit (1 << enum iospace_memory) for each type that ALLOC
 *                    can give for this device
 * @out_page_size: Bytes of the CPU's pages; mappings are whole pages
 * @out_cache_line: Bytes that DMA to a non-coherent device must not share with
 *                  the CPU's data
 * @out_registers: Register indices run from 0 to this - 1, which is the last that
 *                 there is; 0 without registers. Of the BARs of a PCI function
 *                 some before it may be absent
 * @out_vectors: Interrupt vectors run from 0 to this - 1; 0 if the device has
 *               no interrupt
 * @out_zones: Bit (1 << enum iospace_zone) for each zone that the machine has
 * @out_pool: enum iospace_pool
 * @out_arenas: Indices of ARENA run from 0 to this - 1
 * @out_arena_max_blocks: Most blocks that the library may give out of each arena;
 *                        0 for no limit. Module parameter
 * @out_max_file_mappings: Limit of MAP_USER mappings of one open file. Module
 *                         parameter
 * @out_dma_mask: Highest bus address that the device can use
 * @out_max_file_bytes: Limit of buffer bytes of one open file
 * @out_max_total_bytes: Limit of buffer bytes of all open files together
 * @out_max_converted_bytes: Limit of the writecombine and uncached pages of this
 *                           device, what it keeps for reuse included; 0 where
 *                           such memory needs no conversion of pages (all but
 *                           x86), or is not to be had
 * @out_max_segment_bytes: Longest piece of a cached buffer, at most; smaller
 *                         where bounce buffers are in use
 * @out_max_contiguous_bytes: Longest piece that the system's page allocator ever
 *                            has
 * @out_pool_start: Physical address of the device's own pool
 * @out_pool_bytes: Its size; 0 for IOSPACE_POOL_NONE
 * @out_arena_reserve_bytes: Bytes at the end of the arenas that the library
 *                           keeps from general use. Module parameter
 * @out_device: Name of the device on its bus ("0000:00:04.0"), NUL-terminated;
 *              empty for IOSPACE_BUS_NONE
 *
 * Reports what the device and this machine can do. Changes nothing.
 */
struct iospace_info {
	__u32 size;
	__u32 flags;
	__u32 out_version;
	__u32 out_bus;
	__u32 out_iommu;
	__u32 out_coherent;
	__u32 out_memory_types;
	__u32 out_page_size;
	__u32 out_cache_line;
	__u32 out_registers;
	__u32 out_vectors;
	__u32 out_zones;
	__u32 out_pool;
	__u32 out_arenas;
	__u32 out_arena_max_blocks;
	__u32 out_max_file_mappings;
	__aligned_u64 out_dma_mask;
	__aligned_u64 out_max_file_bytes;
	__aligned_u64 out_max_total_bytes;
	__aligned_u64 out_max_converted_bytes;
	__aligned_u64 out_max_segment_bytes;
	__aligned_u64 out_max_contiguous_bytes;
	__aligned_u64 out_pool_start;
	__aligned_u64 out_pool_bytes;
	__aligned_u64 out_arena_reserve_bytes;
	char out_device[64];
};
#define IOSPACE_INFO _IO(IOSPACE_TYPE, IOSPACE_CMD_INFO)

/**
 * enum iospace_alloc_flags - What a buffer must be
 * @IOSPACE_ALLOC_CONTIGUOUS: One segment. IOSPACE_MEMORY_COHERENT is always so
 */
enum iospace_alloc_flags {
	IOSPACE_ALLOC_CONTIGUOUS = 1 << 0,
};

/**
 * enum iospace_alloc_out_flags - What a buffer is
 * @IOSPACE_ALLOC_NEEDS_SYNC: CPU and device agree only by SYNC: the device does not
 *                            snoop, or it works on a copy. Never set for other
 *                            memory than IOSPACE_MEMORY_CACHED, mappings of the
 *                            caller's memory, and imports
 */
enum iospace_alloc_out_flags {
	IOSPACE_ALLOC_NEEDS_SYNC = 1 << 0,
};

/**
 * struct iospace_alloc - ioctl(IOSPACE_ALLOC)
 * @size: sizeof(struct iospace_alloc)
 * @flags: Combination of enum iospace_alloc_flags
 * @memory: enum iospace_memory asked for
 * @out_memory: enum iospace_memory in effect: always @memory
 * @length: Bytes, at least 1
 * @align: What the bus address of the buffer, of a scattered one of each segment,
 *         is a multiple of: a power of two, or 0 for whole pages
 * @boundary: No segment crosses a multiple of this bus address: a power of two,
 *            at least a page, and at least @length if there is to be one
 *            segment; 0 for none
 * @zone: enum iospace_zone
 * @address_bits: All bus addresses are below 1 << @address_bits, 8 to 64; 0 for
 *                what the device reaches
 * @out_length: @length rounded up to whole pages: what can be mapped. Charged are
 *              these, and what alignment costs beside
 * @out_dma_addr: Address of the first byte as this device sees it
 * @out_mmap_offset: Offset for mmap()
 * @out_handle: Name of the buffer in this open file, never 0
 * @out_segments: Pieces that are contiguous for the device, see SEGMENTS
 * @out_flags: Combination of enum iospace_alloc_out_flags
 * @__reserved: Must be 0
 *
 * Allocates zeroed memory that the device reaches. EDQUOT: over the limit of
 * the file, of all files, or of converted pages. EOPNOTSUPP: a memory type not
 * in out_memory_types, or a zone or address that this machine can never give.
 * ENOSPC: the device has a pool of its own, and it is full.
 */
struct iospace_alloc {
	__u32 size;
	__u32 flags;
	__u32 memory;
	__u32 out_memory;
	__aligned_u64 length;
	__aligned_u64 align;
	__aligned_u64 boundary;
	__u32 zone;
	__u32 address_bits;
	__aligned_u64 out_length;
	__aligned_u64 out_dma_addr;
	__aligned_u64 out_mmap_offset;
	__u32 out_handle;
	__u32 out_segments;
	__u32 out_flags;
	__u32 __reserved;
};
#define IOSPACE_ALLOC _IO(IOSPACE_TYPE, IOSPACE_CMD_ALLOC)

/**
 * struct iospace_segment - A piece of a buffer that is contiguous for the device
 * @dma_addr: Its first byte as the device sees it
 * @length: Bytes
 */
struct iospace_segment {
	__aligned_u64 dma_addr;
	__aligned_u64 length;
};

/**
 * struct iospace_segments - ioctl(IOSPACE_SEGMENTS)
 * @size: sizeof(struct iospace_segments)
 * @flags: Must be 0
 * @handle: out_handle of an ALLOC, MAP_USER or IMPORT on the same open file
 * @first: Index of the first segment to write (EINVAL from out_segments on)
 * @count: Segments that @segments has room for, at least 1
 * @out_count: Segments written
 * @segments: Address of an array of struct iospace_segment
 *
 * Tells where the device finds a buffer. The lengths of all segments together
 * are the buffer's length, of an ALLOC its out_length. ENOENT: no such handle, or
 * the handle of a window.
 */
struct iospace_segments {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 first;
	__u32 count;
	__u32 out_count;
	__aligned_u64 segments;
};
#define IOSPACE_SEGMENTS _IO(IOSPACE_TYPE, IOSPACE_CMD_SEGMENTS)

/**
 * enum iospace_sync_flags - Whose turn begins
 * @IOSPACE_SYNC_FOR_DEVICE: The CPU has written, the device may begin
 * @IOSPACE_SYNC_FOR_CPU: The device has ended, the CPU may read
 */
enum iospace_sync_flags {
	IOSPACE_SYNC_FOR_DEVICE = 1 << 0,
	IOSPACE_SYNC_FOR_CPU = 1 << 1,
};

/**
 * struct iospace_sync - ioctl(IOSPACE_SYNC)
 * @size: sizeof(struct iospace_sync)
 * @flags: One of enum iospace_sync_flags
 * @handle: out_handle of an ALLOC, MAP_USER or IMPORT on the same open file
 * @__reserved: Must be 0
 * @offset: First byte, counted from the start of the buffer
 * @length: Bytes, at least 1; the range lies inside the buffer
 *
 * Hands a range of a buffer to the device, or takes it back. Where the device does
 * not snoop, and writes, the range begins and ends on out_cache_line, or at the
 * buffer's end (else EINVAL). Needed only where the buffer said
 * IOSPACE_ALLOC_NEEDS_SYNC; does nothing, and is no error, for other buffers. Of an
 * IMPORT always all of it is handed over: a dma-buf knows no ranges.
 */
struct iospace_sync {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 __reserved;
	__aligned_u64 offset;
	__aligned_u64 length;
};
#define IOSPACE_SYNC _IO(IOSPACE_TYPE, IOSPACE_CMD_SYNC)

/**
 * struct iospace_sync_range - A part of a buffer
 * @offset: As in struct iospace_sync
 * @length: As in struct iospace_sync
 */
struct iospace_sync_range {
	__aligned_u64 offset;
	__aligned_u64 length;
};

/** Most ranges of one SYNC_RANGES. */
#define IOSPACE_MAX_SYNC_RANGES 65536

/**
 * struct iospace_sync_ranges - ioctl(IOSPACE_SYNC_RANGES)
 * @size: sizeof(struct iospace_sync_ranges)
 * @flags: As in struct iospace_sync
 * @handle: As in struct iospace_sync
 * @count: Of @ranges, 1 to IOSPACE_MAX_SYNC_RANGES (else EINVAL)
 * @ranges: Address of an array of struct iospace_sync_range
 *
 * SYNC of many ranges. All are checked before the first is handed over.
 */
struct iospace_sync_ranges {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 count;
	__aligned_u64 ranges;
};
#define IOSPACE_SYNC_RANGES _IO(IOSPACE_TYPE, IOSPACE_CMD_SYNC_RANGES)

/**
 * struct iospace_map_user - ioctl(IOSPACE_MAP_USER)
 * @size: sizeof(struct iospace_map_user)
 * @flags: Must be 0
 * @direction: enum iospace_direction
 * @out_flags: Combination of enum iospace_alloc_out_flags
 * @address: First byte, in the caller's address space
 * @length: Bytes, at least 1; the range must not wrap (EINVAL)
 * @out_dma_addr: Address of the first byte as this device sees it
 * @out_handle: Name of the mapping in this open file, for SEGMENTS, SYNC and FREE;
 *              never 0
 * @out_segments: Pieces that are contiguous for the device, see SEGMENTS
 *
 * Maps memory of the caller for the device, where it is: its pages stay in place,
 * and in memory, until FREE. It begins in the device's turn: what the CPU wrote
 * before the call the device sees. FREE, too, is SYNC for the CPU.
 *
 * The pages count as pinned (VmPin) for the process that called. ENOMEM: more of
 * them than its RLIMIT_MEMLOCK, without CAP_IPC_LOCK. Once their file has gone, what
 * waits for the device's last close counts as buffers do, too. EDQUOT: over
 * out_max_file_mappings; or buffers, with what waits, are over out_max_total_bytes.
 * ENOSPC: the bounce buffers that this device needs are full. EFAULT: nothing is
 * mapped there; or it is read-only, and the device writes; or it is memory of a
 * device, which cannot be pinned; or pages of a file on a disk, which the device
 * must not write behind the file system's back. EBUSY: the range overlaps another
 * mapping of this file and one of the two is written by the device, or it is memory
 * of this device already. EINVAL: the device does not snoop and writes, and the range
 * does not begin and end on out_cache_line. EOPNOTSUPP: it lies where this device does
 * not reach, and the machine has no bounce buffers.
 */
struct iospace_map_user {
	__u32 size;
	__u32 flags;
	__u32 direction;
	__u32 out_flags;
	__aligned_u64 address;
	__aligned_u64 length;
	__aligned_u64 out_dma_addr;
	__u32 out_handle;
	__u32 out_segments;
};
#define IOSPACE_MAP_USER _IO(IOSPACE_TYPE, IOSPACE_CMD_MAP_USER)

/**
 * enum iospace_export_flags - What others may do with a dma-buf
 * @IOSPACE_EXPORT_READ_ONLY: Nobody who has the descriptor writes: not the CPU,
 *                            not a device
 */
enum iospace_export_flags {
	IOSPACE_EXPORT_READ_ONLY = 1 << 0,
};

/**
 * struct iospace_export - ioctl(IOSPACE_EXPORT)
 * @size: sizeof(struct iospace_export)
 * @flags: Combination of enum iospace_export_flags
 * @handle: out_handle of an ALLOC on the same open file
 * @out_fd: Descriptor of a dma-buf, close-on-exec; the caller's
 * @offset: First byte, a whole page
 * @length: Bytes, whole pages, at least one; the range lies inside the buffer
 *
 * Makes a dma-buf of a part of a cached buffer, for other drivers and processes.
 * It keeps the pages, and they stay charged, until the last descriptor, mapping and
 * attachment is gone, whatever becomes of the buffer, the open file and the
 * device. Its DMA_BUF_IOCTL_SYNC hands over to, and takes from, the devices that
 * attached; this one has its turn by SYNC, as before. FREE takes nothing from it.
 * When the device goes, drivers that attached keep what they have; new ones get
 * ENODEV, and mappings show zeros. EOPNOTSUPP: other memory than cached, or a kernel
 * without dma-buf.
 */
struct iospace_export {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__s32 out_fd;
	__aligned_u64 offset;
	__aligned_u64 length;
};
#define IOSPACE_EXPORT _IO(IOSPACE_TYPE, IOSPACE_CMD_EXPORT)

/**
 * struct iospace_import - ioctl(IOSPACE_IMPORT)
 * @size: sizeof(struct iospace_import)
 * @flags: Must be 0
 * @fd: Descriptor of a dma-buf; may be closed afterwards
 * @direction: enum iospace_direction
 * @out_length: Its bytes
 * @out_dma_addr: Address of the first byte as this device sees it
 * @out_handle: Name of the mapping in this open file, for SEGMENTS, SYNC and FREE;
 *              never 0
 * @out_segments: Pieces that are contiguous for the device, see SEGMENTS
 * @out_flags: Combination of enum iospace_alloc_out_flags
 * @__reserved: Must be 0
 *
 * Maps a dma-buf for the device, until FREE. The CPU's view of it is mmap() of @fd.
 * One that was exported from a buffer of this same device has the addresses that
 * the buffer has. It counts as a page of out_max_file_bytes; once its file has gone,
 * and until the device's last close, all of it counts.
 *
 * Where the device does not snoop, the caches are the exporter's business, at SYNC.
 * One that takes no part in it, so that IOSPACE_ALLOC_NEEDS_SYNC is not set, has to
 * map its memory for the CPU without caches: nobody else sees to them.
 *
 * EBADF: @fd is not open. EINVAL: it is no dma-buf. EACCES: it is read-only, and the
 * device writes. Other errors are those of the driver that exported it. EOPNOTSUPP:
 * the device reaches only a part of it, or the kernel has no dma-buf.
 */
struct iospace_import {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 direction;
	__aligned_u64 out_length;
	__aligned_u64 out_dma_addr;
	__u32 out_handle;
	__u32 out_segments;
	__u32 out_flags;
	__u32 __reserved;
};
#define IOSPACE_IMPORT _IO(IOSPACE_TYPE, IOSPACE_CMD_IMPORT)

/**
 * struct iospace_free - ioctl(IOSPACE_FREE)
 * @size: sizeof(struct iospace_free)
 * @flags: Must be 0
 * @handle: out_handle of an ALLOC, WINDOW, MAP_USER or IMPORT on the same open file
 * @__reserved: Must be 0
 *
 * Ends the handle at once; it may be given out again later. Memory that is
 * still mapped stays, and stays charged, until its last mapping goes. Cached
 * pages that the kernel still works on for a program stay too, each with up to a
 * mebibyte around it, uncharged. The caller states by this call that the device no
 * longer uses the memory.
 */
struct iospace_free {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 __reserved;
};
#define IOSPACE_FREE _IO(IOSPACE_TYPE, IOSPACE_CMD_FREE)

/**
 * enum iospace_arena_flags
 * @IOSPACE_ARENA_ATTACH: Let this device reach the arena, and tell its address
 */
enum iospace_arena_flags {
	IOSPACE_ARENA_ATTACH = 1 << 0,
};

/**
 * enum iospace_arena_out_flags
 * @IOSPACE_ARENA_SIDE_BY_SIDE: Windows of several memory types may be open at
 *                              one time; without it one of another type is EBUSY
 */
enum iospace_arena_out_flags {
	IOSPACE_ARENA_SIDE_BY_SIDE = 1 << 0,
};

/**
 * struct iospace_arena - ioctl(IOSPACE_ARENA)
 * @size: sizeof(struct iospace_arena)
 * @flags: Combination of enum iospace_arena_flags
 * @index: Below out_arenas (else ENOENT)
 * @out_flags: Combination of enum iospace_arena_out_flags
 * @out_address: Physical address, a whole page
 * @out_bytes: Its size, whole pages
 * @out_memory_types: Bit (1 << enum iospace_memory) for each type that WINDOW
 *                    can give
 * @__reserved: Must be 0
 * @out_dma_addr: With IOSPACE_ARENA_ATTACH the address of its first byte as this
 *                device sees it, valid until the device's last close; else 0
 * @out_name: Name of its node in the device tree, NUL-terminated; else empty
 *
 * Describes an arena: memory that the system does not use, set aside when the
 * module was loaded, and zeroed then. An arena is one trust domain: whoever may
 * open a device may open windows on all of it. Its bus address is the device's:
 * another device may see it elsewhere. On all but x86 no device snoops an arena
 * that it sees through an IOMMU: its windows must bypass the cache there.
 * EOPNOTSUPP: this device cannot reach all of the arena, or this kernel cannot
 * map it for the device's IOMMU.
 */
struct iospace_arena {
	__u32 size;
	__u32 flags;
	__u32 index;
	__u32 out_flags;
	__aligned_u64 out_address;
	__aligned_u64 out_bytes;
	__u32 out_memory_types;
	__u32 __reserved;
	__aligned_u64 out_dma_addr;
	char out_name[32];
};
#define IOSPACE_ARENA _IO(IOSPACE_TYPE, IOSPACE_CMD_ARENA)

/**
 * struct iospace_arena_books - ioctl(IOSPACE_ARENA_BOOKS)
 * @size: sizeof(struct iospace_arena_books)
 * @flags: Must be 0
 * @index: Below out_arenas (else ENOENT)
 * @out_fd: Descriptor of the file, for reading and writing, close-on-exec; the
 *          caller's. Each call gives a new open file description, so that its
 *          locks (F_OFD_SETLK) are the caller's alone
 *
 * Opens the books of an arena: a file in memory, in which those who share the arena
 * note what of it is in use. The module makes it at the first call for that arena,
 * all zero, gives the same to all calls on all devices, and never looks inside.
 *
 * Its length is a quarter of the arena's and a mebibyte more, whole pages, and is
 * sealed: ftruncate() to another, and writing behind it, is EPERM. A page of it
 * takes memory, of its writer's memory cgroup, from the first write on.
 *
 * It lasts exactly as long as the module keeps the arena, whoever closes what, and
 * whatever becomes of a device. A descriptor or mapping that is left when the module
 * goes stays usable, but of nobody's books: those of an arena that is set aside again
 * are new. EACCES: this file was not opened for writing. EOPNOTSUPP: a kernel
 * without CONFIG_SHMEM.
 */
struct iospace_arena_books {
	__u32 size;
	__u32 flags;
	__u32 index;
	__s32 out_fd;
};
#define IOSPACE_ARENA_BOOKS _IO(IOSPACE_TYPE, IOSPACE_CMD_ARENA_BOOKS)

/**
 * struct iospace_window - ioctl(IOSPACE_WINDOW)
 * @size: sizeof(struct iospace_window)
 * @flags: Must be 0
 * @memory: enum iospace_memory asked for
 * @out_memory: enum iospace_memory in effect: always @memory
 * @address: Physical address, a whole page
 * @length: Bytes, whole pages; the range must not wrap (EINVAL)
 * @out_mmap_offset: Offset for mmap(), of the whole window
 * @out_handle: Name of the window in this open file, for FREE; never 0
 * @__reserved: Must be 0
 *
 * Opens a window on physical memory. The range lies inside an arena; or, with
 * CAP_SYS_RAWIO and not under lockdown, inside a range that the module's
 * parameter "allow" declares, or in a register range of this device. All else
 * is EPERM, RAM that the system uses always. A range that lies beyond what the
 * CPU can address is EINVAL. A window other than an arena's is claimed while it
 * is open: EBUSY if a driver has the range.
 *
 * EBUSY: the range, or a part of it, is open in another memory type, and this
 * machine cannot have both (see IOSPACE_ARENA_SIDE_BY_SIDE). EOPNOTSUPP: a type
 * that this machine cannot give here. Registers of a device are
 * IOSPACE_MEMORY_DEVICE, those that are prefetchable also
 * IOSPACE_MEMORY_WRITECOMBINE. EDQUOT: each window counts as a buffer of a page.
 * A mapping of a window stays whole: to unmap or protect a part of it is EINVAL.
 * A window ends when it was freed and its last mapping is gone.
 */
struct iospace_window {
	__u32 size;
	__u32 flags;
	__u32 memory;
	__u32 out_memory;
	__aligned_u64 address;
	__aligned_u64 length;
	__aligned_u64 out_mmap_offset;
	__u32 out_handle;
	__u32 __reserved;
};
#define IOSPACE_WINDOW _IO(IOSPACE_TYPE, IOSPACE_CMD_WINDOW)

/**
 * enum iospace_registers_flags - What a register window is
 * @IOSPACE_REGISTERS_MMAP: Can be mapped. Not set for I/O ports and for
 *                          windows that would expose a neighbour's registers:
 *                          REGISTER_ACCESS reaches those
 * @IOSPACE_REGISTERS_PORT: I/O ports
 * @IOSPACE_REGISTERS_PREFETCHABLE: A memory BAR without read side effects
 */
enum iospace_registers_flags {
	IOSPACE_REGISTERS_MMAP = 1 << 0,
	IOSPACE_REGISTERS_PORT = 1 << 1,
	IOSPACE_REGISTERS_PREFETCHABLE = 1 << 2,
};

/**
 * struct iospace_registers - ioctl(IOSPACE_REGISTERS)
 * @size: sizeof(struct iospace_registers)
 * @flags: Must be 0
 * @index: BAR of a PCI function, entry of "reg" of a platform device
 * @out_flags: Combination of enum iospace_registers_flags
 * @out_length: Bytes of the window, before rounding to pages
 * @out_mmap_offset: Offset for mmap(), the same at each call for one index; 0
 *                   without IOSPACE_REGISTERS_MMAP
 * @out_page_offset: Where in the first mapped page the window begins
 * @__reserved: Must be 0
 * @out_name: Name of the entry from "reg-names", NUL-terminated; else empty
 *
 * Describes a window of the device's registers. ENOENT: no such index, or a
 * BAR that the function does not have.
 */
struct iospace_registers {
	__u32 size;
	__u32 flags;
	__u32 index;
	__u32 out_flags;
	__aligned_u64 out_length;
	__aligned_u64 out_mmap_offset;
	__u32 out_page_offset;
	__u32 __reserved;
	char out_name[32];
};
#define IOSPACE_REGISTERS _IO(IOSPACE_TYPE, IOSPACE_CMD_REGISTERS)

/**
 * enum iospace_register_access_flags
 * @IOSPACE_REGISTER_WRITE: Write @value; without it, read into @value
 */
enum iospace_register_access_flags {
	IOSPACE_REGISTER_WRITE = 1 << 0,
};

/**
 * struct iospace_register_access - ioctl(IOSPACE_REGISTER_ACCESS)
 * @size: sizeof(struct iospace_register_access)
 * @flags: Combination of enum iospace_register_access_flags
 * @index: As in struct iospace_registers
 * @width: Bytes of the one access: 1, 2, 4, or, on 64-bit machines and not for
 *         ports, 8 (else EOPNOTSUPP)
 * @offset: First byte, counted from the start of the window; a multiple of
 *          @width
 * @value: What to write (EINVAL if it has bits above @width), or what was read
 *
 * One access of exactly this width, ordered as readl() and writel() are: memory
 * written before it is seen by the device first. EINVAL: the range is not
 * inside the window. EACCES: a write, and the file was opened for reading only.
 */
struct iospace_register_access {
	__u32 size;
	__u32 flags;
	__u32 index;
	__u32 width;
	__aligned_u64 offset;
	__aligned_u64 value;
};
#define IOSPACE_REGISTER_ACCESS _IO(IOSPACE_TYPE, IOSPACE_CMD_REGISTER_ACCESS)

/**
 * enum iospace_interrupt_flags - What to do with a vector
 * @IOSPACE_INTERRUPT_ENABLE: Count it for this file, as is so from open(), and
 *                            unmask a level-triggered line
 * @IOSPACE_INTERRUPT_DISABLE: Stop counting it for this file; a level-triggered
 *                             line is masked while no open file has it enabled
 * @IOSPACE_INTERRUPT_EVENTFD: Add 1 to @eventfd at each interrupt of the
 *                             vector; -1 ends that. One eventfd for a vector
 *                             and file; a further one replaces it
 */
enum iospace_interrupt_flags {
	IOSPACE_INTERRUPT_ENABLE = 1 << 0,
	IOSPACE_INTERRUPT_DISABLE = 1 << 1,
	IOSPACE_INTERRUPT_EVENTFD = 1 << 2,
};

/**
 * enum iospace_interrupt_out_flags - What a vector is
 * @IOSPACE_INTERRUPT_LEVEL: Level-triggered (INTx, most platform lines): masked
 *                           when it fires, unmasked by ENABLE
 * @IOSPACE_INTERRUPT_MASKED: It fired and waits for ENABLE
 */
enum iospace_interrupt_out_flags {
	IOSPACE_INTERRUPT_LEVEL = 1 << 0,
	IOSPACE_INTERRUPT_MASKED = 1 << 1,
};

/**
 * struct iospace_interrupt - ioctl(IOSPACE_INTERRUPT)
 * @size: sizeof(struct iospace_interrupt)
 * @flags: Combination of enum iospace_interrupt_flags, ENABLE and DISABLE not
 *         both (EINVAL); 0 only asks
 * @vector: Interrupt vector, below out_vectors (else ENOENT)
 * @eventfd: Descriptor of an eventfd, or -1; 0 without the EVENTFD flag
 * @out_flags: Combination of enum iospace_interrupt_out_flags, after the call
 * @__reserved: Must be 0
 * @out_count: Interrupts of the vector since this file was opened
 * @out_name: Name of the vector from "interrupt-names", NUL-terminated; else
 *            empty
 *
 * Controls one interrupt vector. Does not count as a read() of it. EBADF:
 * @eventfd is not an open descriptor.
 */
struct iospace_interrupt {
	__u32 size;
	__u32 flags;
	__u32 vector;
	__s32 eventfd;
	__u32 out_flags;
	__u32 __reserved;
	__aligned_u64 out_count;
	char out_name[32];
};
#define IOSPACE_INTERRUPT _IO(IOSPACE_TYPE, IOSPACE_CMD_INTERRUPT)

/**
 * struct iospace_status - What mmap() at offset IOSPACE_STATUS_OFFSET shows
 * @gone: 0 while the device lives. Set to 1 before any mapping of the device
 *        is taken away, so a register that was read while @gone is 0 after the
 *        read held what the device answered
 * @__reserved: 0
 *
 * One read-only page (PROT_WRITE is EACCES), so that a program can tell at no
 * cost whether a register access reached the device.
 */
struct iospace_status {
	__u32 gone;
	__u32 __reserved;
};
#define IOSPACE_STATUS_OFFSET 0

#endif /* _UAPI_IOSPACE_H */
