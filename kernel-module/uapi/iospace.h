/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * The contract between the iospace kernel module and user space.
 *
 * Each DMA-capable device that iospace drives has a character device,
 * /dev/iospaceN. A program opens it, asks with INFO what the device and this
 * machine can do, allocates memory that the device reaches, maps the device's
 * registers, and reads or polls the file for interrupts. Everything a program
 * obtains belongs to the open file description and is given back with it: when
 * the last descriptor is closed and the last mapping, those of child processes
 * included, is gone.
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
 *     EBADF       @eventfd is not an open descriptor
 *     EBUSY       in use by someone else
 *     ENOSPC      this open file has no handle left for a buffer of that size
 *     ENOMEM      the machine has no such memory left
 *     EDQUOT      over a limit of the module (see out_max_file_bytes)
 *     EPERM       not allowed
 *     EACCES      mmap: a protection that the descriptor was not opened for, or
 *                 a writable status page
 *     EAGAIN      read: nothing to read yet, and the descriptor is O_NONBLOCK
 *     EINTR       read: a signal came while it waited
 *     EFAULT      the argument is not readable or not writable memory
 *     ENODEV      the device is gone (unbound or unplugged)
 *     ENOTTY      no such call
 *
 * mmap
 *
 * ALLOC and REGISTERS answer with an opaque out_mmap_offset below 2^44, valid
 * for the same open file only. A mapping begins exactly there, is MAP_SHARED,
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
};

/**
 * enum iospace_memory - What a buffer's memory is to the CPU
 * @IOSPACE_MEMORY_CACHED: Ordinary write-back pages, perhaps scattered
 * @IOSPACE_MEMORY_WRITECOMBINE: In no cache; writes may be gathered
 * @IOSPACE_MEMORY_UNCACHED: In no cache
 * @IOSPACE_MEMORY_WRITETHROUGH: Cached reads, writes go through
 * @IOSPACE_MEMORY_COHERENT: Whatever makes this device and the CPU agree with
 *                           no further call; contiguous for the device
 *
 * Only IOSPACE_MEMORY_COHERENT can be had from this version.
 */
enum iospace_memory {
	IOSPACE_MEMORY_CACHED = 1,
	IOSPACE_MEMORY_WRITECOMBINE = 2,
	IOSPACE_MEMORY_UNCACHED = 3,
	IOSPACE_MEMORY_WRITETHROUGH = 4,
	IOSPACE_MEMORY_COHERENT = 5,
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
 * @out_registers: Register indices run from 0 to this - 1; PCI functions have
 *                 6 (their BARs), some of which may be absent
 * @out_vectors: Interrupt vectors run from 0 to this - 1; 0 if the device has
 *               no interrupt
 * @__reserved: Written as 0
 * @out_dma_mask: Highest bus address that the device can use
 * @out_max_file_bytes: Limit of buffer bytes of one open file
 * @out_max_total_bytes: Limit of buffer bytes of all open files together
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
	__u32 __reserved;
	__aligned_u64 out_dma_mask;
	__aligned_u64 out_max_file_bytes;
	__aligned_u64 out_max_total_bytes;
	char out_device[64];
};
#define IOSPACE_INFO _IO(IOSPACE_TYPE, IOSPACE_CMD_INFO)

/**
 * struct iospace_alloc - ioctl(IOSPACE_ALLOC)
 * @size: sizeof(struct iospace_alloc)
 * @flags: Must be 0
 * @memory: enum iospace_memory asked for
 * @out_memory: enum iospace_memory in effect
 * @length: Bytes, at least 1
 * @out_length: @length rounded up to whole pages: what can be mapped, and what
 *              is charged
 * @out_dma_addr: Address of the first byte as this device sees it
 * @out_mmap_offset: Offset for mmap()
 * @out_handle: Name of the buffer in this open file, never 0
 * @__reserved: Must be 0
 *
 * Allocates zeroed memory that the device reaches. EDQUOT: over the limit of
 * the file or of all files. EOPNOTSUPP: a memory type not in out_memory_types.
 */
struct iospace_alloc {
	__u32 size;
	__u32 flags;
	__u32 memory;
	__u32 out_memory;
	__aligned_u64 length;
	__aligned_u64 out_length;
	__aligned_u64 out_dma_addr;
	__aligned_u64 out_mmap_offset;
	__u32 out_handle;
	__u32 __reserved;
};
#define IOSPACE_ALLOC _IO(IOSPACE_TYPE, IOSPACE_CMD_ALLOC)

/**
 * struct iospace_free - ioctl(IOSPACE_FREE)
 * @size: sizeof(struct iospace_free)
 * @flags: Must be 0
 * @handle: out_handle of an ALLOC on the same open file
 * @__reserved: Must be 0
 *
 * Ends the handle at once; it may be given out again later. Memory that is
 * still mapped stays, and stays charged, until its last mapping goes. The
 * caller states by this call that the device no longer uses the memory.
 */
struct iospace_free {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 __reserved;
};
#define IOSPACE_FREE _IO(IOSPACE_TYPE, IOSPACE_CMD_FREE)

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
 * inside the window. EPERM: a write, and the file was opened for reading only.
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
