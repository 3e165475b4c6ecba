"""Read every method of a dex with androguard, and compare with dexdump: ``read_dex.py CLASSES_DEX DEXDUMP_TEXT``.

Two readers that share no code have to see the same classes, the same methods, and in each method the same instructions
at the same places, none of which Android 8 lacks. Runs in an environment of androguard's own.
"""

import re
import sys
from itertools import zip_longest
from pathlib import Path

from androguard.core.dex import DEX
from loguru import logger

Code = list[tuple[int, str]]
"""Place, in units of 16 bits, and name of each instruction of a method; without the tables behind the code."""

NOT_IN_ANDROID_8 = re.compile("invoke-(custom|polymorphic)|const-method-")
TABLE = re.compile("nop|.*(payload|switch-data|array-data)")
METHOD = re.compile(r"\|\[\w+\] (.+)")
INSTRUCTION = re.compile(r"\|([0-9a-f]{4,}): (\S+)")


def by_androguard(dex: DEX) -> dict[str, Code]:
    """The code of every method, by the method's name."""
    found = {}
    for method in dex.get_encoded_methods():
        class_name = method.get_class_name()[1:-1].replace("/", ".")
        descriptor = method.get_descriptor().replace(" ", "")
        code = [(place // 2, each.get_name()) for place, each in method.get_instructions_idx()]
        found[f"{class_name}.{method.get_name()}:{descriptor}"] = [x for x in code if not TABLE.match(x[1])]
    return found


def by_dexdump(text: str) -> dict[str, Code]:
    """The same, of the methods that have code."""
    found: dict[str, Code] = {}
    name = ""
    for line in text.splitlines():
        if started := METHOD.search(line):
            name = started[1]
            found[name] = []
        elif (instruction := INSTRUCTION.search(line)) and not TABLE.match(instruction[2]):
            found[name].append((int(instruction[1], 16), instruction[2]))
    return found


def main() -> None:
    """Print what was read; exit 1 at the first difference."""
    logger.remove()  # androguard writes a line for every section
    dex, text = DEX(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]).read_text(encoding="utf-8", errors="replace")
    methods, expected = by_androguard(dex), by_dexdump(text)
    classes = len(dex.get_classes())
    if classes != len(re.findall("^  Class descriptor", text, re.MULTILINE)):
        sys.exit(f"androguard reads {classes} classes of {sys.argv[1]}, dexdump another number")
    with_code = {name: code for name, code in methods.items() if code}
    if with_code.keys() != expected.keys():
        sys.exit(f"only one reader of {sys.argv[1]} finds code in {sorted(with_code.keys() ^ expected.keys())[:3]}")
    for name, code in with_code.items():
        if code != expected[name]:
            differing = next(pair for pair in zip_longest(code, expected[name]) if pair[0] != pair[1])
            sys.exit(f"{name}: androguard reads {differing[0]}, dexdump {differing[1]}")
        if lacking := [each for _, each in code if NOT_IN_ANDROID_8.match(each)]:
            sys.exit(f"{name} has {lacking[0]}, which Android 8 does not have")
    print(
        f"androguard and dexdump agree on {classes} classes, {len(methods)} methods, "
        f"{sum(map(len, with_code.values()))} instructions"
    )


if __name__ == "__main__":
    main()
