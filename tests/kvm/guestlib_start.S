/*
 * guestlib_start.S - entry in 64-bit mode: a stack, then guest_main().
 */
	.section .text.start, "ax"
	.globl _start
_start:
	cld
	lea	stack_end(%rip), %rsp
	call	guest_main
1:	cli
	hlt
	jmp	1b

	.bss
	.balign	16
stack:
	.skip	8192
stack_end:

	.section .note.GNU-stack, "", @progbits
