/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the PVH entry to C.
 *
 * QEMU (through its PVH option ROM on pc and q35, through qboot on microvm) jumps to the address in the ELF
 * note with flat 32-bit segments, paging off, interrupts off, and the physical address of the start info in
 * %ebx. We clear .bss, map the first 4 GiB one to one with 2 MiB pages, switch to long mode, and call C with
 * the start info. Nothing of the firmware's (GDT, stack, tables) is relied on after that.
 */

	.section .note.Xen, "a", @note
	.balign	4
	.long	4			/* size of the name */
	.long	8			/* size of the value: QEMU reads a size_t from a 64-bit ELF */
	.long	18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.quad	entry32

	.section .text.boot, "ax"
	.code32
	.globl	entry32
entry32:
	cli
	cld
	mov	$boot_stack_end, %esp
	mov	$bss_start, %edi
	mov	$bss_end, %ecx
	sub	%edi, %ecx
	shr	$2, %ecx
	xor	%eax, %eax
	rep stosl

	push	%ebx
	mov	$0x80000000, %eax
	cpuid
	cmp	$0x80000001, %eax
	jb	no_long_mode
	mov	$0x80000001, %eax
	cpuid
	bt	$29, %edx
	jnc	no_long_mode
	pop	%ebx

	/* 2048 entries of 2 MiB: present, writable, large. */
	mov	$page_directories, %edi
	mov	$0x83, %eax
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	jnc	1b

	mov	$page_pointers, %edi
	mov	$page_directories + 3, %eax
	mov	$4, %ecx
2:	mov	%eax, (%edi)
	add	$8, %edi
	add	$4096, %eax
	loop	2b
	movl	$page_pointers + 3, page_root

	mov	$page_root, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx	/* EFER */
	rdmsr
	or	$0x100, %eax		/* LME */
	wrmsr
	mov	%cr0, %eax
	or	$0x80000001, %eax	/* PG, PE */
	mov	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$8, $entry64

no_long_mode:
	mov	$no_long_mode_text, %esi
	mov	$no_long_mode_end - no_long_mode_text, %ecx
	mov	$0xe9, %edx
	rep outsb
3:	hlt
	jmp	3b

	.code64
entry64:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$boot_stack_end, %esp
	mov	%ebx, %edi
	xor	%ebp, %ebp
	call	payload_main
4:	hlt
	jmp	4b

/*
 * One stub a vector, all of one size, so that the IDT is filled by arithmetic: vector and error code are
 * pushed (a zero where the CPU pushes none) and all share trap_common. See struct trap_frame in trap.h.
 */
	.balign	16
	.globl	trap_stubs
trap_stubs:
	.set	vector, 0
	.rept	64
	.balign	16
	.if	vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
	.else
	pushq	$0
	.endif
	pushq	$vector
	jmp	trap_common
	.set	vector, vector + 1
	.endr

trap_common:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	cld
	mov	%rsp, %rdi
	call	trap_handle
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/*
 * Instructions that may fault. Each returns 1, or 0 when the CPU raised an exception on the labelled
 * instruction: trap_handle() then continues at the address beside it in trap_fixups.
 */
	.globl	try_rdmsr		/* bool try_rdmsr(uint32_t msr, uint64_t *ret) */
try_rdmsr:
	mov	%edi, %ecx
5:	rdmsr
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%rax, (%rsi)
	mov	$1, %eax
	ret

	.globl	try_wrmsr		/* bool try_wrmsr(uint32_t msr, uint64_t value) */
try_wrmsr:
	mov	%edi, %ecx
	mov	%rsi, %rdx
	mov	%esi, %eax
	shr	$32, %rdx
6:	wrmsr
	mov	$1, %eax
	ret

	.globl	try_xsetbv		/* bool try_xsetbv(uint64_t value) */
try_xsetbv:
	xor	%ecx, %ecx
	mov	%rdi, %rdx
	mov	%edi, %eax
	shr	$32, %rdx
7:	xsetbv
	mov	$1, %eax
	ret

	.globl	halt_unless, halt_window, halt_end	/* see x86.h */
halt_unless:
	cmp	%rsi, (%rdi)
halt_window:
	jne	halt_end
	hlt
halt_end:
	ret

try_failed:
	xor	%eax, %eax
	ret

	.section .rodata
	.balign	8
	.globl	trap_fixups
trap_fixups:
	.quad	5b, try_failed
	.quad	6b, try_failed
	.quad	7b, try_failed
	.quad	0, 0

	.balign	8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* 8: 64-bit code */
	.quad	0x00cf93000000ffff	/* 16: data */
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

no_long_mode_text:
	.ascii	"payload 1\nerror the cpu has no long mode\n"
no_long_mode_end:

	.section .bss
	.balign	4096
	.globl	page_root, page_pointers
page_root:		.skip	4096
page_pointers:		.skip	4096
page_directories:	.skip	4 * 4096
	.skip	16384
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
