"""Write the assembly of a libc.so: each name that a library imports, as a jump through a table.

Reads ``nm -D --undefined-only`` on stdin; takes the processor's name. See fill.c and bionic.c.
"""

import sys

JUMP = {
    "x86_64": "jmp *table+{0}(%rip)",
    "aarch64": "adrp x16, table+{0}\nldr x16, [x16, :lo12:table+{0}]\nbr x16",
}
STREAMS = "__sF"
STREAMS_BYTES = 3 * 152


def main() -> None:
    """Print it."""
    symbols = [line.split() for line in sys.stdin]
    names = [name.split("@")[0] for kind, name in symbols if kind == "U"]
    names = [name for name in names if name != STREAMS]
    print(".text")
    for place, name in enumerate(names):
        print(f".globl {name}\n.type {name}, %function\n{name}:\n{JUMP[sys.argv[1]].format(8 * place)}")
    print(".section .rodata\n.globl names\n.hidden names\nnames:")
    for name in names:
        print(f'.asciz "{name}"')
    print(f".byte 0\n.bss\n.balign 8\n.globl table\n.hidden table\ntable: .skip {8 * len(names)}")
    print(f".globl {STREAMS}\n.type {STREAMS}, %object\n.size {STREAMS}, {STREAMS_BYTES}")
    print(f"{STREAMS}: .skip {STREAMS_BYTES}")
    print('.section .note.GNU-stack,"",%progbits')


if __name__ == "__main__":
    main()
