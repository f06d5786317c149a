"""Hostile ``.npz`` and ``.npy`` files, one or more for each row of the threat table.

Nothing here runs a payload: pickles are put together from opcodes, archives from packed headers. A file that
were loaded by ``np.load(..., allow_pickle=True)`` would touch the canary path given to its builder; no
payload does anything else. All bytes depend on nothing but the canary path.
"""

from __future__ import annotations

import bz2
import dataclasses
import functools
import lzma
import os
import shlex
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

GIB = 1 << 30
STORED, DEFLATED = 0, 8


@dataclasses.dataclass(frozen=True)
class Attack:
    """One hostile file: ``build(folder, canary)`` writes it and returns its path.

    ``codes`` are the acceptable error codes; an empty string among them means that reading it normally,
    at no cost, is right too.
    """

    row: int
    name: str
    codes: frozenset[str]
    build: Callable[[Path, Path], Path]


_ATTACKS: list[Attack] = []


def _add(row: int, name: str, codes: str, ending: str, content: Callable[..., bytes]) -> None:
    """Add a case whose file holds ``content(canary)``; ``codes`` are separated by ``|``."""

    def build(folder: Path, canary: Path) -> Path:
        path = folder / f"{name}.{ending}"
        path.write_bytes(content(canary))
        return path

    _ATTACKS.append(Attack(row, name, frozenset(codes.split("|")), build))


# -- pickle opcodes ------------------------------------------------------------------------------------


def glob(module: str, name: str) -> bytes:
    """GLOBAL: the name in two lines."""
    return f"c{module}\n{name}\n".encode()


def stack_glob(module: str, name: str) -> bytes:
    """STACK_GLOBAL: the name as two strings on the stack, so no plain search for the name finds it."""
    return text(module) + text(name) + b"\x93"


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def raw(data: bytes) -> bytes:
    return b"C" + bytes([len(data)]) + data if len(data) < 256 else b"B" + struct.pack("<I", len(data)) + data


def num(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def real(value: float) -> bytes:
    return b"G" + struct.pack(">d", value)


NONE, TRUE, FALSE, MARK, STOP = b"N", b"\x88", b"\x89", b"(", b"."
PROTO4 = b"\x80\x04"


def tup(*items: bytes) -> bytes:
    return MARK + b"".join(items) + b"t"


def lst(items: Iterable[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def dct(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def call(func: bytes, *args: bytes) -> bytes:
    return func + tup(*args) + b"R"


def built(target: bytes, state: bytes) -> bytes:
    return target + state + b"b"


def put(item: bytes, key: int) -> bytes:
    """Store in the memo. Keys from 100 on: no helper here uses the memo itself."""
    return item + b"r" + struct.pack("<I", key)


def get(key: int) -> bytes:
    return b"j" + struct.pack("<I", key)


def pickled(item: bytes, prefix: bytes = PROTO4) -> bytes:
    return prefix + item + STOP


# -- the objects of a rollout --------------------------------------------------------------------------

RECONSTRUCT = glob("numpy.core.multiarray", "_reconstruct")
SCALAR = glob("numpy.core.multiarray", "scalar")
NDARRAY = glob("numpy", "ndarray")
DTYPE = glob("numpy", "dtype")
IMAGE = glob("PIL.Image", "Image")


def dtype(kind: str, state: bytes | None = None) -> bytes:
    """A dtype as NumPy pickles it; ``state`` replaces the right one."""
    if state is None:
        size = int(kind[1:]) if kind[0] in "SU" else -1
        order = "|" if kind[0] in "ObS" or kind in ("u1", "i1") else "<"
        size *= 4 if kind[0] == "U" else 1
        align = -1 if size < 0 else 4 if kind[0] == "U" else 1
        state = dtype_state(order, size=size, align=align, flags=63 if kind[0] == "O" else 0)
    return built(call(DTYPE, text(kind), FALSE, TRUE), state)


def dtype_state(
    order: str = "<",
    *,
    subarray: bytes = NONE,
    names: bytes = NONE,
    fields: bytes = NONE,
    size: int = -1,
    align: int = -1,
    flags: int = 0,
    version: int = 3,
) -> bytes:
    return tup(num(version), text(order), subarray, names, fields, num(size), num(align), num(flags))


def array(kind: bytes, shape: bytes, content: bytes, fortran: bytes = FALSE) -> bytes:
    empty = call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b"))
    return built(empty, tup(num(1), shape, kind, fortran, content))


def objects(items: list[bytes], shape: bytes | None = None) -> bytes:
    return array(dtype("O8"), tup(num(len(items))) if shape is None else shape, lst(items))


def boxed(item: bytes) -> bytes:
    """The 0-d object array around a dictionary that ``np.save`` makes."""
    return objects([item], tup())


def picture(width: int = 4, height: int = 3, data: bytes | None = None, mode: str = "RGB") -> bytes:
    content = bytes(width * height * 3) if data is None else data
    return pil_image(lst([b"}", text(mode), tup(num(width), num(height)), NONE, raw(content)]))


def pil_image(state: bytes, cls: bytes = IMAGE) -> bytes:
    return built(cls + b")\x81", state)


STEPS = 2


def rollout(
    *,
    image: bytes | None = None,
    instruction: bytes | None = None,
    action: bytes | None = None,
    info: bytes | None = None,
    more: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """A small rollout that is fine but for what the caller replaces."""
    row = lst([real(0.5)] * 6 + [real(1.0)])
    after = dct([(text("elapsed_steps"), num(1)), (text("success"), TRUE)])
    return dct(
        [
            (text("image"), lst([picture()] * (STEPS + 1)) if image is None else image),
            (text("instruction"), text("put carrot on plate") if instruction is None else instruction),
            (text("action"), lst([row] * STEPS) if action is None else action),
            (text("info"), lst([after] * STEPS) if info is None else info),
            *more,
        ]
    )


# -- npy -----------------------------------------------------------------------------------------------


def npy_header(header: str, version: int = 1, claim: int | None = None) -> bytes:
    """Magic, version, length and text of an npy header, padded as NumPy does it."""
    size = struct.Struct("<H" if version == 1 else "<I")
    data = header.encode("latin-1")
    data += b" " * (-(8 + size.size + len(data) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + size.pack(len(data) if claim is None else claim) + data


def npy_header_of(descr: str, shape: str, version: int = 1) -> bytes:
    return npy_header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}", version)


def npy_object(pickle_bytes: bytes, shape: str = "()") -> bytes:
    """An npy file whose header announces an object array and whose body is ``pickle_bytes``."""
    return npy_header_of("|O", shape) + pickle_bytes


# -- zip -----------------------------------------------------------------------------------------------


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@functools.cache
def _zero_block(*, raw_stream: bool) -> bytes:
    """1 MiB of zeros as deflate blocks that end on a byte: repeating them repeats the zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15 if raw_stream else 15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block if raw_stream else block[2:]


def deflated_zeros(head: bytes, mebibytes: int, tail: bytes) -> bytes:
    """``head``, zeros and ``tail`` as one deflate stream, made without compressing gigabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + _zero_block(raw_stream=True) * mebibytes + deflated(tail)


@dataclasses.dataclass(frozen=True)
class Member:
    """One zip member; ``local_*`` are what its local header says where that differs."""

    name: bytes
    data: bytes
    size: int
    crc: int
    method: int = DEFLATED
    flags: int = 0
    packed_size: int | None = None
    extra: bytes = b""
    attributes: int = 0
    offset: int | None = None
    local_name: bytes | None = None
    local_size: int | None = None
    local_crc: int | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_extra: bytes = b""
    before: bytes = b""
    after: bytes = b""


def member(name: str | bytes, content: bytes, method: int = DEFLATED) -> Member:
    """A truthful member."""
    raw_name = name if isinstance(name, bytes) else name.encode()
    data = deflated(content) if method == DEFLATED else content
    return Member(raw_name, data, len(content), zlib.crc32(content), method)


def _or(first: int | None, second: int) -> int:
    return second if first is None else first


def archive(
    members: Iterable[Member],
    *,
    before: bytes = b"",
    after: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    disk: int = 0,
    directory_size: int | None = None,
    directory_at: int | None = None,
    zip64_end: bool = False,
) -> bytes:
    """A zip file made of ``members``, lies included."""
    out, directory, total = bytearray(before), bytearray(), 0
    for item in members:
        total += 1
        packed = _or(item.packed_size, len(item.data))
        out += item.before
        at = len(out)
        local_name = item.name if item.local_name is None else item.local_name
        out += struct.pack(
            "<4s5H3I2H",
            b"PK\x03\x04",
            20,
            _or(item.local_flags, item.flags),
            _or(item.local_method, item.method),
            0,
            33,  # 1980-01-01
            _or(item.local_crc, item.crc),
            packed,
            _or(item.local_size, item.size),
            len(local_name),
            len(item.local_extra),
        )
        out += local_name + item.local_extra + item.data + item.after
        directory += struct.pack(
            "<4s6H3I5H2I",
            b"PK\x01\x02",
            20,
            20,
            item.flags,
            item.method,
            0,
            33,
            item.crc,
            packed,
            item.size,
            len(item.name),
            len(item.extra),
            0,
            0,
            0,
            item.attributes,
            _or(item.offset, at),
        )
        directory += item.name + item.extra
    at, size = _or(directory_at, len(out)), _or(directory_size, len(directory))
    total = _or(count, total)
    end = len(out) + len(directory)
    out += directory
    if zip64_end:
        out += struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, total, total, size, at)
        out += struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    total = min(total, 0xFFFF)
    out += struct.pack("<4s4H2IH", b"PK\x05\x06", disk, disk, total, total, size, at, len(comment))
    return bytes(out) + comment + after


def npz(member_bytes: bytes, name: str = "arr_0.npy", method: int = DEFLATED) -> bytes:
    """An archive as ``np.savez_compressed`` makes it, with one member."""
    return archive([member(name, member_bytes, method)])


def _pickle_case(row: int, name: str, codes: str, item: Callable[..., bytes], endings: str = "npy npz") -> None:
    """Add ``item(canary)``, a whole pickle, as the body of an npy file and of the npy file in an npz."""
    for ending in endings.split():

        def content(canary: Path, ending: str = ending) -> bytes:
            data = npy_object(item(canary))
            return npz(data) if ending == "npz" else data

        _add(row, f"{name}_{ending}" if " " in endings else name, codes, ending, content)


def _constant(row: int, name: str, codes: str, pickle_bytes: bytes, endings: str = "npy") -> None:
    _pickle_case(row, name, codes, lambda canary: pickle_bytes, endings)


# -- payloads ------------------------------------------------------------------------------------------


def touch_command(canary: Path) -> str:
    return "touch " + shlex.quote(str(canary))


def touch_python(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


def system(canary: Path) -> bytes:
    return call(glob("posix", "system"), text(touch_command(canary)))


# -- rows 1 to 3: code execution -----------------------------------------------------------------------


def _memmap_arguments(canary: Path) -> bytes:
    return tup(text(str(canary)), text("u1"), text("w+"), num(0), tup(num(1)))


_EXECUTE: dict[str, Callable[[Path], bytes]] = {
    "posix_system": system,
    "os_system_by_stack": lambda c: call(stack_glob("os", "system"), text(touch_command(c))),
    "builtins_eval": lambda c: call(glob("builtins", "eval"), text(touch_python(c))),
    "builtins_exec_python2_name": lambda c: call(glob("__builtin__", "exec"), text(touch_python(c))),
    "subprocess_popen": lambda c: call(glob("subprocess", "Popen"), lst([text("touch"), text(str(c))])),
    "subprocess_getoutput": lambda c: call(glob("subprocess", "getoutput"), text(touch_command(c))),
    "builtins_open": lambda c: call(glob("io", "open"), text(str(c)), text("w")),
    "builtins_getattr": lambda c: call(
        call(
            glob("builtins", "getattr"),
            call(glob("builtins", "__import__"), text("os")),
            text("system"),
        ),
        text(touch_command(c)),
    ),
    "operator_attrgetter": lambda c: call(
        call(
            call(glob("operator", "attrgetter"), text("system")),
            call(glob("importlib", "import_module"), text("os")),
        ),
        text(touch_command(c)),
    ),
    "operator_methodcaller": lambda c: call(
        call(glob("operator", "methodcaller"), text("system"), text(touch_command(c))),
        call(glob("importlib", "import_module"), text("os")),
    ),
    "functools_partial": lambda c: call(
        call(glob("functools", "partial"), glob("posix", "system"), text(touch_command(c)))
    ),
    "builtins_map": lambda c: call(
        glob("builtins", "list"),
        call(glob("builtins", "map"), glob("posix", "system"), lst([text(touch_command(c))])),
    ),
    # NEWOBJ runs __new__ only, and that of memmap creates the file.
    "newobj_of_memmap": lambda c: glob("numpy", "memmap") + _memmap_arguments(c) + b"\x81",
    "newobj_ex_of_memmap": lambda c: glob("numpy", "memmap") + _memmap_arguments(c) + b"}\x92",
    "copyreg_reconstructor": lambda c: call(
        glob("copyreg", "_reconstructor"),
        glob("logging", "FileHandler"),
        glob("logging", "FileHandler"),
        text(str(c)),
    ),
    "obj_of_popen": lambda c: MARK + glob("subprocess", "Popen") + lst([text("touch"), text(str(c))]) + b"o",
    "pickle_in_pickle": lambda c: call(glob("pickle", "loads"), raw(pickled(system(c)))),
    "timeit": lambda c: call(
        glob("timeit", "timeit"), text(touch_python(c)), text("pass"), glob("time", "time"), num(1)
    ),
    "code_interpreter": lambda c: call(
        stack_glob("code", "InteractiveInterpreter.runsource"),
        call(glob("code", "InteractiveInterpreter")),
        text(touch_python(c)),
        text("x"),
        text("exec"),
    ),
    "dotted_builtins": lambda c: call(stack_glob("os", "path.os.system"), text(touch_command(c))),
    "marshal_loads": lambda c: call(glob("marshal", "loads"), raw(b"N")),
    "ctypes_cdll": lambda c: call(glob("ctypes", "CDLL"), text(str(c))),
    "build_with_setstate": lambda c: (
        built(call(glob("types", "SimpleNamespace")), dct([(text("__setstate__"), glob("posix", "system"))]))
        + text(touch_command(c))
        + b"b"
    ),
    "name_from_the_memo": lambda c: (
        call(
            tup(put(text("posix"), 100), put(text("system"), 101)) + get(100) + get(101) + b"\x93",
            text(touch_command(c)),
        )
        + b"\x86"
    ),
}

for _name, _payload in _EXECUTE.items():
    # Names of Python 2 are understood in protocols 0 to 2 only.
    _start = b"\x80\x02" if _name.endswith("python2_name") else PROTO4
    _pickle_case(1, f"exec_{_name}", "E101", lambda c, p=_payload, s=_start: pickled(boxed(p(c)), s), "npz")

# NumPy unpickles the body whatever comes out of it, so the payload alone is enough.

for _name in ("posix_system", "os_system_by_stack", "builtins_eval", "subprocess_popen", "pickle_in_pickle"):
    for _protocol in (0, 2, 3, 4, 5):
        _start = b"\x80" + bytes([_protocol]) if _protocol > 1 else b""
        _pickle_case(
            2,
            f"exec_{_name}_bare_p{_protocol}",
            "E101",
            lambda c, p=_EXECUTE[_name], start=_start: pickled(p(c), start),
            "npy",
        )

_NESTED: dict[str, Callable[[bytes], bytes]] = {
    "as_instruction": lambda p: rollout(instruction=p),
    "as_image_list": lambda p: rollout(image=p),
    "as_frame": lambda p: rollout(image=lst([picture(), p, picture()])),
    "in_action_row": lambda p: rollout(action=lst([lst([p] * 7)] * 2)),
    "as_success": lambda p: rollout(info=lst([dct([(text("success"), p)])] * 2)),
    "in_object_array": lambda p: rollout(info=objects([p, p])),
    "in_object_array_of_object_arrays": lambda p: rollout(info=objects([objects([p]), objects([p])])),
    "in_tuple": lambda p: rollout(more=[(text("extra"), tup(p))]),
    "in_frozenset": lambda p: rollout(more=[(text("extra"), MARK + p + b"\x91")]),
    "in_set": lambda p: rollout(more=[(text("extra"), b"\x8f(" + p + b"\x90")]),
    "as_dictionary_key": lambda p: rollout(more=[(p, NONE)]),
    "in_image_info": lambda p: rollout(
        image=lst(
            [pil_image(lst([dct([(text("x"), p)]), text("RGB"), tup(num(1), num(1)), NONE, raw(b"123")]))] * 3
        )
    ),
    "as_image_mode": lambda p: rollout(
        image=lst([pil_image(lst([b"}", p, tup(num(1), num(1)), NONE, raw(b"123")]))] * 3)
    ),
    "as_array_shape": lambda p: rollout(action=array(dtype("f4"), p, raw(b""))),
    "as_dtype_state": lambda p: rollout(action=array(dtype("f4", p), tup(num(0)), raw(b""))),
    "as_dtype_metadata": lambda p: rollout(
        action=array(
            dtype("f4", tup(num(4), text("<"), NONE, NONE, NONE, num(-1), num(-1), num(0), p)),
            tup(num(0)),
            raw(b""),
        )
    ),
    "as_reconstruct_class": lambda p: rollout(action=call(RECONSTRUCT, p, tup(num(0)), raw(b"b"))),
    "as_scalar_value": lambda p: rollout(more=[(text("extra"), call(SCALAR, dtype("f4"), p))]),
    "dropped_by_pop": lambda p: p + b"0" + rollout(),
    "after_legit_frames": lambda p: rollout(more=[(text("zzz"), p)]),
}

for _name, _place in _NESTED.items():
    _pickle_case(3, f"nested_{_name}", "E101", lambda c, w=_place: pickled(boxed(w(system(c)))), "npz")

# -- row 4: names that look like ours ------------------------------------------------------------------


def _gadgets(canary: Path) -> dict[str, bytes]:
    path, source, command = text(str(canary)), text(touch_python(canary)), text(touch_command(canary))
    written = call(glob("numpy", "zeros"), num(1))
    return {
        "runstring": call(glob("numpy.testing._private.utils", "runstring"), source, b"}"),
        "testing_measure": call(glob("numpy.testing", "measure"), source),
        "testing_rundocs": call(glob("numpy.testing", "rundocs"), path),
        "f2py_myeval": call(glob("numpy.f2py.crackfortran", "myeval"), source),
        "f2py_param_eval": call(glob("numpy.f2py.crackfortran", "param_eval"), source, b"}", b"}"),
        "f2py_run_command": call(glob("numpy.f2py.diagnose", "run_command"), command),
        "f2py_compile": call(glob("numpy.f2py", "compile"), text("end")),
        "exec_command": call(glob("numpy.distutils.exec_command", "exec_command"), command),
        "numpy_load": call(glob("numpy", "load"), path, NONE, TRUE),
        "numpy_fromfile": call(glob("numpy", "fromfile"), path),
        "numpy_memmap": call(glob("numpy", "memmap"), path, text("u1"), text("w+"), num(0), tup(num(1))),
        "numpy_save": call(glob("numpy", "savetxt"), path, written),
        "numpy_core_fromfile": call(glob("numpy.core.multiarray", "fromfile"), path),
        "numpy_core_empty": call(glob("numpy.core.multiarray", "empty"), num(1)),
        "numpy_new_core_empty": call(glob("numpy._core.multiarray", "empty"), num(1)),
        "numpy_frompyfunc": call(glob("numpy", "frompyfunc"), glob("posix", "system"), num(1), num(1)),
        "numpy_vectorize": call(call(glob("numpy", "vectorize"), glob("posix", "system")), command),
        "numpy_apply_along_axis": call(
            glob("numpy", "apply_along_axis"), glob("posix", "system"), num(0), written
        ),
        "numpy_ctypeslib": call(glob("numpy.ctypeslib", "load_library"), text("x"), path),
        "numpy_loadtxt": call(glob("numpy", "loadtxt"), path),
        "pickle_through_numpy": call(stack_glob("numpy.lib.format", "pickle.loads"), raw(b"N.")),
        "os_through_numpy": call(stack_glob("numpy.lib.npyio", "os.system"), command),
        "sys_through_numpy": call(stack_glob("numpy", "sys.modules.get"), text("os")),
        "tofile": call(stack_glob("numpy", "ndarray.tofile"), written, path),
        "dtype_class": stack_glob("numpy", "dtype.__class__"),
        "dtype_class_by_global": glob("numpy", "dtype.__class__"),
        "reconstruct_globals": stack_glob("numpy.core.multiarray", "_reconstruct.__globals__"),
        "dotted_module_in_name": stack_glob("numpy", "core.multiarray._reconstruct"),
        "dotted_posix": call(stack_glob("PIL.Image", "os.system"), command),
        "image_open": call(glob("PIL.Image", "open"), path),
        "image_save": call(
            stack_glob("PIL.Image", "Image.save"),
            call(glob("PIL.Image", "new"), text("L"), tup(num(1), num(1))),
            path,
            text("PNG"),
        ),
        "image_new": call(glob("PIL.Image", "new"), text("L"), tup(num(1), num(1))),
        "image_frombytes": call(glob("PIL.Image", "frombytes"), text("L"), tup(num(1), num(1)), raw(b"x")),
        "image_show": call(glob("PIL.ImageShow", "show"), NONE),
        "image_show_viewer": glob("PIL.ImageShow", "UnixViewer") + b")\x81",
        "image_math_eval": call(glob("PIL.ImageMath", "eval"), source),
        "image_math_unsafe_eval": call(glob("PIL.ImageMath", "unsafe_eval"), source),
        "image_grab": call(glob("PIL.ImageGrab", "grab")),
        "image_font": call(glob("PIL.ImageFont", "truetype"), path),
        "ghostscript": call(glob("PIL.EpsImagePlugin", "Ghostscript"), NONE, NONE, NONE),
        "eps_image": glob("PIL.EpsImagePlugin", "EpsImageFile") + b")\x81",
        "gif_image": glob("PIL.GifImagePlugin", "GifImageFile") + b")\x81",
        "tiff_image": glob("PIL.TiffImagePlugin", "TiffImageFile") + b")\x81",
        "image_file": glob("PIL.ImageFile", "ImageFile") + b")\x81",
        "image_submodule_of_image": glob("PIL.Image", "Image.Image") + b")\x81",
        "codecs_decode": call(glob("_codecs", "decode"), raw(b"x"), text("zlib")),
        "codecs_open": call(glob("codecs", "open"), path, text("w")),
        "capital_letter": call(glob("Numpy", "dtype"), text("f4")),
        "trailing_space": call(glob("numpy ", "dtype"), text("f4")),
        "trailing_return": call(glob("numpy", "dtype\r"), text("f4")),
        "zero_byte": call(stack_glob("numpy\0", "dtype"), text("f4")),
        "cyrillic_letter": call(stack_glob("num\u0440y", "dtype"), text("f4")),
        "surrogate": call(stack_glob("numpy\udc80", "dtype"), text("f4")),
        "empty_names": stack_glob("", ""),
        "name_of_1_mb": stack_glob("numpy", "a." * 500_000 + "b"),
        "terminal_escape": stack_glob("\x1b]8;;http://example.invalid\x07numpy", "dtype\x1b[2J\n\u202e"),
        "name_prefix": glob("numpy.core.multiarray._reconstruct", "x"),
        "relative_module": glob(".numpy", "dtype"),
        "plain_object": call(glob("builtins", "object")),
        "builtins_bytearray": call(glob("builtins", "bytearray"), num(1)),
        "builtins_range": call(glob("builtins", "range"), num(1)),
    }


for _name in _gadgets(Path("/")):
    _pickle_case(
        4,
        f"gadget_{_name}",
        "E101",
        lambda c, n=_name: pickled(boxed(rollout(instruction=_gadgets(c)[n]))),
        "npz",
    )

# -- rows 5 and 6: other libraries' pickles ------------------------------------------------------------

_OTHERS = {
    "dill_create_function": call(glob("dill._dill", "_create_function"), NONE, b"}", NONE, NONE, b"}"),
    "dill_load_type": call(glob("dill._dill", "_load_type"), text("CodeType")),
    "dill_import_module": call(glob("dill._dill", "_import_module"), text("os.system")),
    "cloudpickle_subimport": call(glob("cloudpickle.cloudpickle", "subimport"), text("os")),
    "cloudpickle_builtin_type": call(glob("cloudpickle.cloudpickle", "_builtin_type"), text("CodeType")),
    "cloudpickle_make_function": call(glob("cloudpickle.cloudpickle", "_make_function"), NONE, NONE, NONE),
    "joblib_array_wrapper": built(
        glob("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81",
        dct([(text("subclass"), NDARRAY), (text("shape"), tup(num(1))), (text("allow_mmap"), TRUE)]),
    ),
    "joblib_zarray": glob("joblib.numpy_pickle_compat", "ZNDArrayWrapper") + b")\x81",
    "pandas_unpickle_block": call(glob("pandas._libs.internals", "_unpickle_block"), NONE, NONE, NONE),
    "pandas_read_pickle": call(glob("pandas", "read_pickle"), text("x")),
    "jax_reconstruct_array": call(glob("jax._src.array", "_reconstruct_array"), RECONSTRUCT, NONE, NONE),
    "tensorflow_restore": call(glob("tensorflow.python.framework.ops", "convert_to_tensor"), num(1)),
    "gymnasium_space": glob("gymnasium.spaces.box", "Box") + b")\x81",
    "scipy_rotation": call(glob("scipy.spatial.transform._rotation", "Rotation"), NONE),
    "main_class": glob("__main__", "Rollout") + b")\x81",
    "datetime": call(glob("datetime", "date"), raw(b"\x07\xe8\x01\x01")),
    "ordered_dict": call(glob("collections", "OrderedDict")),
    "defaultdict": call(glob("collections", "defaultdict"), glob("builtins", "list")),
}
for _name, _item in _OTHERS.items():
    _constant(5, f"foreign_{_name}", "E101", pickled(boxed(rollout(more=[(text("extra"), _item)]))), "npz")

_STORAGE = tup(text("storage"), glob("torch", "FloatStorage"), text("0"), text("cpu"), num(4)) + b"Q"
_TORCH = {
    "rebuild_tensor_v2": call(
        glob("torch._utils", "_rebuild_tensor_v2"),
        _STORAGE,
        num(0),
        tup(num(4)),
        tup(num(1)),
        FALSE,
        call(glob("collections", "OrderedDict")),
    ),
    "rebuild_parameter": call(glob("torch._utils", "_rebuild_parameter"), NONE, FALSE, NONE),
    "load_from_bytes": call(glob("torch.storage", "_load_from_bytes"), raw(b"\x80\x02N.")),
    "storage_only": _STORAGE,
    "size": call(glob("torch", "Size"), tup(num(1))),
    "device": call(glob("torch", "device"), text("cuda:0")),
    "hub_load": call(glob("torch.hub", "load"), text("x/y"), text("z")),
    "jit_compile": call(glob("torch._inductor.codecache", "compile_file"), text("x")),
}
for _name, _item in _TORCH.items():
    _constant(6, f"torch_{_name}", "E101", pickled(boxed(rollout(action=_item))), "npz")

# -- row 7: not an npy file ----------------------------------------------------------------------------

for _protocol in (0, 2, 4, 5):
    _start = b"\x80" + bytes([_protocol]) if _protocol > 1 else b""
    _add(7, f"bare_pickle_p{_protocol}", "E102", "npy", lambda c, s=_start: pickled(system(c), s))
_add(7, "bare_pickle_in_npz", "E102", "npz", lambda c: npz(pickled(system(c))))
_add(7, "bare_pickle_named_npz", "E102|E105|E108", "npz", lambda c: pickled(system(c)))
_add(7, "npz_named_npy", "E102", "npy", lambda c: npz(npy_object(pickled(boxed(rollout())))))
_add(7, "npy_named_npz", "E102|E105|E108", "npz", lambda c: npy_object(pickled(system(c))))
_add(7, "text_file", "E102", "npy", lambda c: b"id,step\n1,2\n")
_add(7, "empty_file", "E102|E105", "npy", lambda c: b"")
_add(7, "empty_file_named_npz", "E102|E105|E108", "npz", lambda c: b"")
_add(7, "empty_member", "E102|E105", "npz", lambda c: npz(b""))
_add(7, "magic_only", "E102|E105", "npy", lambda c: b"\x93NUMPY")
_add(7, "magic_in_lower_case", "E102", "npy", lambda c: b"\x93numpy" + npy_object(pickled(system(c)))[6:])
_add(7, "bom_before_magic", "E102", "npy", lambda c: b"\xef\xbb\xbf" + npy_object(pickled(system(c))))
_add(7, "version_9", "E102", "npy", lambda c: b"\x93NUMPY\x09\x00" + npy_object(pickled(system(c)))[8:])
_add(7, "hdf5_named_npy", "E102", "npy", lambda c: b"\x89HDF\r\n\x1a\n" + bytes(64))

# -- row 8: opcodes no collector needs -----------------------------------------------------------------

_OPCODES = {
    "inst": MARK + b"iPIL.Image\nImage\n",
    "obj": MARK + IMAGE + b"o",
    "ext1": b"\x82\x01",
    "ext2": b"\x83\x01\x00",
    "ext4": b"\x84\x01\x00\x00\x00",
    "ext4_of_zero": b"\x84\x00\x00\x00\x00",
    "persid": b"Pobject\n",
    "binpersid": text("object") + b"Q",
    "newobj_ex": IMAGE + b")}\x92",
    "bytearray8": b"\x96" + struct.pack("<Q", 4) + b"abcd",
    "bytearray8_of_1_tib": b"\x96" + struct.pack("<Q", 1 << 40),
    "next_buffer": b"\x97",
    "readonly_buffer": raw(b"abc") + b"\x98",
    "frozenset": MARK + num(1) + b"\x91",
    "unknown_ff": b"\xff",
    "unknown_00": b"\x00",
    "stop_in_the_middle_of_nothing": b"\x99",
}
for _name, _item in _OPCODES.items():
    _constant(8, f"opcode_{_name}", "E103", pickled(boxed(rollout(more=[(text("extra"), _item)]))))
_pickle_case(
    8,
    "opcode_inst_of_posix_system",
    "E101|E103",
    lambda c: pickled(boxed(MARK + text(touch_command(c)) + b"iposix\nsystem\n")),
)
_constant(8, "protocol_200", "E103|E104", pickled(boxed(rollout()), b"\x80\xc8"))

# -- rows 9 to 12: arrays and dtypes NumPy would believe -----------------------------------------------

_F8 = dtype("f8")


def _fields(**offsets: tuple[bytes, int]) -> tuple[bytes, bytes]:
    names = tup(*(text(name) for name in offsets))
    return names, dct((text(name), tup(kind, num(at))) for name, (kind, at) in offsets.items())


def _structured(kind: str, *, size: int, flags: int = 0, **offsets: tuple[bytes, int]) -> bytes:
    names, fields = _fields(**offsets)
    state = dtype_state("|", names=names, fields=fields, size=size, align=1, flags=flags)
    return dtype(kind, state)


_DTYPES: dict[str, bytes] = {
    "field_far_outside": _structured("V8", size=8, f=(_F8, GIB)),
    "field_just_outside": _structured("V8", size=8, f=(_F8, 1)),
    "field_before_the_start": _structured("V8", size=8, f=(_F8, -4096)),
    "fields_on_a_plain_dtype": _structured("f8", size=8, f=(_F8, 0)),
    "overlapping_fields": _structured("V8", size=8, f=(_F8, 0), g=(dtype("i4"), 4)),
    "honest_structure": _structured("V8", size=8, f=(_F8, 0)),
    "plain_void": dtype("V8", dtype_state("|", size=8, align=1)),
    "item_size_of_1_gib": dtype("f8", dtype_state(size=GIB, align=8)),
    "item_size_zero": dtype("f8", dtype_state(size=0, align=0)),
    "text_of_another_size": dtype("U2", dtype_state(size=GIB, align=4)),
    "bytes_of_another_size": dtype("S8", dtype_state("|", size=1 << 20, align=1)),
    "negative_item_size": dtype("S8", dtype_state("|", size=-8, align=1)),
    "subarray": dtype("f8", dtype_state("|", subarray=tup(_F8, tup(num(1 << 20))), size=8 << 20, align=8)),
    "subarray_text": call(DTYPE, text("(1000000,1000000)f8"), FALSE, TRUE),
    "field_text": call(DTYPE, text("f4,f4"), FALSE, TRUE),
    "dates_with_metadata": dtype(
        "M8",
        tup(
            num(4),
            text("<"),
            NONE,
            NONE,
            NONE,
            num(-1),
            num(-1),
            num(0),
            tup(b"}", tup(raw(b"ns"), num(1), num(1), num(1))),
        ),
    ),
    "metadata": dtype("f8", tup(*[num(4), text("<"), NONE, NONE, NONE, num(-1), num(-1), num(0), b"}"])),
    "object_flags_on_floats": dtype("f8", dtype_state(flags=63)),
    "odd_byte_order": dtype("f8", dtype_state("q")),
    "odd_state_version": dtype("f8", dtype_state(version=99)),
    "state_is_no_tuple": dtype("f8", num(3)),
    "state_is_empty": dtype("f8", tup()),
    "state_is_a_dict": dtype("f8", dct([(text("__class__"), NDARRAY)])),
    "state_twice": built(_F8, dtype_state("q")),
    "unknown_letter": dtype("f3", dtype_state()),
    "half_as_long_name": dtype("float64", dtype_state()),
    "complex": dtype("c16", dtype_state("q")),
    "number_for_text": call(DTYPE, num(12), FALSE, TRUE),
    "class_for_text": call(DTYPE, NDARRAY, FALSE, TRUE),
    "dict_for_text": call(DTYPE, dct([(text("names"), lst([text("a")])), (text("formats"), lst([text("O")]))])),
    "no_arguments": call(DTYPE),
    "text_of_1_mb": dtype("f" * 1_000_000, dtype_state()),
}
for _name, _item in _DTYPES.items():
    _constant(
        9, f"dtype_{_name}", "E104", pickled(boxed(rollout(action=array(_item, tup(num(1)), raw(bytes(8))))))
    )
_constant(
    9,
    "dtype_text_of_10_to_the_18",
    "E104|E105|E107",
    pickled(boxed(rollout(action=array(call(DTYPE, text("S" + "9" * 18), FALSE, TRUE), tup(num(1)), raw(b"x"))))),
)
_constant(
    9,
    "dtype_scalar_of_a_structure",
    "E104",
    pickled(boxed(rollout(action=call(SCALAR, _structured("V8", size=8, f=(_F8, GIB)), raw(bytes(8)))))),
)

_POINTERS = bytes.fromhex("4141414141414141")
_VOID_O = _structured("V8", size=8, flags=27, f=(dtype("O8"), 0))
_FORGED = {
    "object_in_void": array(_VOID_O, tup(num(1)), raw(_POINTERS)),
    "object_in_void_without_flags": array(
        _structured("V8", size=8, f=(dtype("O8"), 0)), tup(num(1)), raw(_POINTERS)
    ),
    "object_array_from_bytes": array(dtype("O8"), tup(num(1)), raw(_POINTERS)),
    "object_array_from_text": array(dtype("O8"), tup(num(1)), text("AAAAAAAA")),
    "object_subarray": array(
        dtype("V8", dtype_state("|", subarray=tup(dtype("O8"), tup(num(1))), size=8, align=8, flags=27)),
        tup(num(1)),
        raw(_POINTERS),
    ),
    "object_state_without_flags": array(dtype("O8", dtype_state("|", flags=0)), tup(num(1)), raw(_POINTERS)),
}
for _name, _item in _FORGED.items():
    _constant(10, f"pointer_{_name}", "E104", pickled(boxed(rollout(action=_item))))

_SCALARS = {
    "of_objects_without_value": call(SCALAR, dtype("O8")),
    "of_objects_with_pointer": call(SCALAR, dtype("O8"), raw(_POINTERS)),
    "of_objects_with_object": call(SCALAR, dtype("O8"), lst([])),
    "of_floats_without_value": call(SCALAR, dtype("f8")),
    "too_short": call(SCALAR, dtype("f8"), raw(b"abc")),
    "too_long": call(SCALAR, dtype("f4"), raw(bytes(64))),
    "of_void_with_object": call(SCALAR, _VOID_O, raw(_POINTERS)),
    "of_no_dtype": call(SCALAR, text("f8"), raw(bytes(8))),
    "without_arguments": call(SCALAR),
    "value_is_a_number": call(SCALAR, dtype("f8"), num(1)),
}
for _name, _item in _SCALARS.items():
    _constant(11, f"scalar_{_name}", "E104", pickled(boxed(rollout(more=[(text("extra"), _item)]))))

_CALLS: dict[str, tuple[str, bytes]] = {
    "ndarray_of_2_34": ("E103", call(NDARRAY, tup(num(1 << 34)))),
    "ndarray_with_buffer": ("E103", call(NDARRAY, tup(num(1)), text("O"), raw(_POINTERS))),
    "ndarray_newobj": ("E103", NDARRAY + tup(tup(num(1 << 34))) + b"\x81"),
    "ndarray_newobj_empty": ("E103", NDARRAY + b")\x81"),
    "dtype_newobj": ("E103|E104", DTYPE + tup(text("O")) + b"\x81"),
    "image_call": ("E103", call(IMAGE)),
    "image_newobj_with_arguments": ("E103|E104", IMAGE + tup(num(1)) + b"\x81"),
    "reconstruct_newobj": ("E103|E104", RECONSTRUCT + b")\x81"),
    "reconstruct_of_2_34": ("E104", call(RECONSTRUCT, NDARRAY, tup(num(1 << 34)), raw(b"b"))),
    "reconstruct_of_image": ("E104", call(RECONSTRUCT, IMAGE, tup(num(0)), raw(b"b"))),
    "reconstruct_of_dtype": ("E104", call(RECONSTRUCT, DTYPE, tup(num(0)), raw(b"b"))),
    "reconstruct_without_arguments": ("E104", call(RECONSTRUCT)),
    "reconstruct_of_objects": ("E104", call(RECONSTRUCT, NDARRAY, tup(num(4)), raw(b"O"))),
    "reconstruct_without_state": ("E104", call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b"))),
    "shape_of_2_40": ("E104", array(_F8, tup(num(1 << 40)), raw(bytes(8)))),
    "shape_whose_product_wraps": ("E104", array(_F8, tup(num(1 << 32), num(1 << 32)), raw(b""))),
    "shape_beyond_64_bits": ("E104", array(_F8, tup(num(1 << 70)), raw(bytes(8)))),
    "shape_negative": ("E104", array(_F8, tup(num(-1)), raw(bytes(8)))),
    "shape_two_negatives": ("E104", array(_F8, tup(num(-1), num(-1)), raw(bytes(8)))),
    "shape_zero_times_2_62": ("E104|E107", array(_F8, tup(num(0), num(1 << 62)), raw(b""))),
    "shape_of_100_axes": ("E104", array(_F8, tup(*[num(1)] * 100), raw(bytes(8)))),
    "shape_of_floats": ("E104", array(_F8, tup(real(1.0)), raw(bytes(8)))),
    "shape_is_a_list": ("E104", array(_F8, lst([num(1)]), raw(bytes(8)))),
    "data_too_short": ("E104", array(_F8, tup(num(2)), raw(bytes(8)))),
    "data_too_long": ("E104", array(_F8, tup(num(1)), raw(bytes(64)))),
    "data_is_a_list": ("E104", array(_F8, tup(num(1)), lst([real(1.0)]))),
    "objects_too_few": ("E104", array(dtype("O8"), tup(num(1 << 34)), lst([NONE]))),
    "state_too_short": ("E104", built(call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b")), tup(num(1)))),
    "state_version_7": (
        "E104",
        built(
            call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b")),
            tup(num(7), tup(num(1)), _F8, FALSE, raw(bytes(8))),
        ),
    ),
    "dtype_is_text": ("E104", array(text("f8"), tup(num(1)), raw(bytes(8)))),
    "dtype_is_a_class": ("E104", array(DTYPE, tup(num(1)), raw(bytes(8)))),
    "class_as_value": ("E104", NDARRAY),
    "dtype_as_value": ("E104", _F8),
}
for _name, (_codes, _item) in _CALLS.items():
    _constant(12, f"array_{_name}", _codes, pickled(boxed(rollout(action=_item))))

# -- row 13: operations on the wrong type --------------------------------------------------------------

_WRONG: dict[str, tuple[str, bytes]] = {
    "setitem_on_list": ("E104", b"]" + num(0) + num(1) + b"s"),
    "setitem_on_tuple": ("E104", tup(num(1)) + num(0) + num(1) + b"s"),
    "setitem_on_text": ("E104", text("abc") + num(0) + num(1) + b"s"),
    "setitem_on_array": ("E104", array(_F8, tup(num(1)), raw(bytes(8))) + num(1 << 40) + real(1.0) + b"s"),
    "setitem_on_image": ("E104", picture() + text("im") + num(1) + b"s"),
    "setitem_on_unbuilt_array": (
        "E104",
        call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b")) + num(1 << 40) + num(1) + b"s",
    ),
    "setitem_on_class": ("E104", NDARRAY + text("shape") + num(1) + b"s"),
    "setitems_on_list": ("E104", b"](" + num(0) + num(1) + b"u"),
    "append_on_dict": ("E104", b"}" + num(1) + b"a"),
    "append_on_tuple": ("E104", b")" + num(1) + b"a"),
    "append_on_set": ("E104", b"\x8f" + num(1) + b"a"),
    "append_on_array": ("E104", array(_F8, tup(num(1)), raw(bytes(8))) + num(1) + b"a"),
    "appends_on_dict": ("E104", b"}(" + num(1) + b"e"),
    "appends_on_class": ("E104", IMAGE + MARK + num(1) + b"e"),
    "additems_on_list": ("E104", b"](" + num(1) + b"\x90"),
    "additems_on_dict": ("E104", b"}(" + num(1) + b"\x90"),
    "build_on_dict": ("E104", b"}" + dct([(text("__class__"), num(1))]) + b"b"),
    "build_on_list": ("E104", b"]" + dct([(text("append"), num(1))]) + b"b"),
    "build_on_text": ("E104", text("a") + b"}b"),
    "build_on_class": ("E104", NDARRAY + dct([(text("__reduce__"), num(1))]) + b"b"),
    "build_on_function": ("E104", RECONSTRUCT + dct([(text("__globals__"), num(1))]) + b"b"),
    "build_array_with_dict": (
        "E104",
        built(call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b")), dct([(text("shape"), tup(num(1 << 40)))])),
    ),
    "odd_number_of_setitems": ("E104", b"}(" + num(1) + num(2) + num(3) + b"u"),
    "list_as_key": ("E104", b"}]" + num(1) + b"s"),
    "image_as_key": ("E104", b"}" + picture() + num(1) + b"s"),
    "array_as_key": ("E104", b"}" + array(_F8, tup(num(1)), raw(bytes(8))) + num(1) + b"s"),
    "list_in_set": ("E104", b"\x8f(]\x90"),
    "arguments_in_a_list": ("E103|E104", DTYPE + lst([text("f8")]) + b"R"),
    "arguments_are_none": ("E103|E104", DTYPE + NONE + b"R"),
    "call_of_text": ("E103|E104", text("numpy") + b")R"),
    "call_of_array": ("E103|E104", array(_F8, tup(num(1)), raw(bytes(8))) + b")R"),
    "newobj_of_text": ("E103|E104", text("PIL.Image") + b")\x81"),
    "newobj_arguments_in_a_list": ("E103|E104", IMAGE + b"]\x81"),
    "stack_global_of_numbers": ("E101|E104", num(1) + num(2) + b"\x93"),
    "stack_global_of_bytes": ("E101|E104", raw(b"posix") + raw(b"system") + b"\x93"),
    "encode_to_other_codec": ("E104", call(glob("_codecs", "encode"), text("abc"), text("rot13"))),
    "encode_without_codec": ("E104", call(glob("_codecs", "encode"), text("abc"))),
    "encode_of_wide_text": ("E104", call(glob("_codecs", "encode"), text("\u4e2d"), text("latin1"))),
    "set_of_text": ("E104", call(glob("builtins", "set"), text("abc"))),
    "set_of_a_class": ("E104", call(glob("builtins", "set"), NDARRAY)),
    "text_that_is_not_utf8": ("E104", b"X\x02\x00\x00\x00\xff\xfe"),
    "item_never_stored": ("E104", get(4_000_000_000)),
    "stack_underflow": ("E104", b"0" * 50),
    "setitem_without_value": ("E104", MARK + b"s"),
    "tuple_without_mark": ("E104", b"tttt"),
    "mark_left_over": ("E104", MARK),
}
for _name, (_codes, _item) in _WRONG.items():
    _constant(13, f"wrong_{_name}", _codes, pickled(boxed(rollout(more=[(text("extra"), _item)]))))
_constant(13, "wrong_stop_on_empty_stack", "E104", PROTO4 + STOP)
_constant(13, "wrong_two_results", "E104", PROTO4 + boxed(rollout()) + boxed(rollout()) + STOP)
_constant(13, "wrong_result_is_no_array", "E104", pickled(rollout()))
_constant(13, "wrong_reduce_on_empty_stack", "E104", PROTO4 + b"R" + STOP)
_constant(13, "wrong_build_on_empty_stack", "E104", PROTO4 + b"b" + STOP)

# -- row 14: memo --------------------------------------------------------------------------------------

_FREE = "|E103|E104|E105|E106"  # the empty first part: reading it is fine
for _name, _opcode in {
    "long_binput_0fffffff": b"r\xff\xff\xff\x0f",
    "long_binput_7fffffff": b"r\xff\xff\xff\x7f",
    "long_binput_ffffffff": b"r\xff\xff\xff\xff",
    "put_text": b"p999999999999999999\n",
    "put_negative": b"p-1\n",
    "put_digits": b"p" + b"9" * 4_000 + b"\n",
}.items():
    _constant(14, f"memo_{_name}", _FREE, pickled(boxed(rollout()) + _opcode))
_constant(14, "memo_bomb_of_9_bytes", _FREE, b"\x80\x02]r\xff\xff\xff\x0f.")
_constant(
    14,
    "memo_many_sparse_keys",
    _FREE,
    pickled(boxed(rollout()) + b"".join(b"r" + struct.pack("<I", key * 104_729) for key in range(40_000))),
)

# -- row 15: lengths that lie --------------------------------------------------------------------------

_LENGTHS: dict[str, tuple[str, bytes]] = {
    "binbytes8_of_40_gib": ("E105", PROTO4 + b"\x8e" + struct.pack("<Q", 40 * GIB)),
    "binbytes8_of_2_63": ("E105", PROTO4 + b"\x8e" + struct.pack("<Q", 1 << 63)),
    "binbytes8_of_2_64_minus_1": ("E105", PROTO4 + b"\x8e" + b"\xff" * 8),
    "binunicode8_of_40_gib": ("E105", PROTO4 + b"\x8d" + struct.pack("<Q", 40 * GIB)),
    "binunicode8_of_2_63": ("E105", PROTO4 + b"\x8d" + struct.pack("<Q", 1 << 63)),
    "binbytes_of_4_gib": ("E105", PROTO4 + b"B\xff\xff\xff\xff"),
    "binunicode_of_4_gib": ("E105", PROTO4 + b"X\xff\xff\xff\xff"),
    "short_binbytes": ("E105", PROTO4 + b"C\xff"),
    "long4_of_2_gib": ("E105|E106", PROTO4 + b"\x8b\xff\xff\xff\x7f"),
    "long4_negative": ("E103|E104|E105|E106", PROTO4 + b"\x8b\xff\xff\xff\xff" + STOP),
    "long1_cut": ("E105|E106", PROTO4 + b"\x8a\xff\x01"),
    "binstring_negative": ("E103|E104|E105", b"\x80\x02T\xff\xff\xff\xff" + STOP),
    "frame_of_1_tib": ("E105", PROTO4 + b"\x95" + struct.pack("<Q", 1 << 40) + boxed(rollout()) + STOP),
    "frame_of_2_63": ("E105", PROTO4 + b"\x95" + struct.pack("<Q", 1 << 63) + boxed(rollout()) + STOP),
    "last_byte_of_frame_missing": ("E105", PROTO4 + b"\x95" + struct.pack("<Q", 3) + b"]0"),
    "no_pickle": ("E105", b""),
    "no_stop": ("E105", PROTO4 + boxed(rollout())),
    "opcode_without_argument": ("E105", PROTO4 + b"J\x01"),
    "global_without_line_end": ("E105", PROTO4 + b"cnumpy\ndtype"),
    "global_of_3_mb_without_line_end": ("E105", PROTO4 + b"c" + b"n" * 3_000_000),
    "cut_in_a_frame": ("E105", pickled(boxed(rollout()))[:200]),
    "image_bytes_of_1_gib": (
        "E105",
        pickled(
            boxed(
                rollout(
                    image=lst(
                        [
                            pil_image(
                                lst(
                                    [
                                        b"}",
                                        text("RGB"),
                                        tup(num(20_000), num(20_000)),
                                        NONE,
                                        b"B" + struct.pack("<I", 1_200_000_000),
                                    ]
                                )
                            )
                        ]
                    )
                )
            )
        ),
    ),
}
for _name, (_codes, _bytes) in _LENGTHS.items():
    _constant(15, f"length_{_name}", _codes, _bytes)
_constant(15, "length_binbytes8_of_40_gib_in_npz", "E105", _LENGTHS["binbytes8_of_40_gib"][1], "npz")

# -- rows 16 and 17: too many, too deep ----------------------------------------------------------------


def _doubled(levels: int, first: bytes, join: Callable[[bytes, bytes], bytes]) -> bytes:
    """Each level holds the level below twice, through the memo: 2**levels items from a few bytes."""
    out = put(first, 100)
    for level in range(levels):
        out += b"0" + put(join(get(100 + level), get(100 + level)), 101 + level)
    return out


def _laughs_of_dicts(a: bytes, b: bytes) -> bytes:
    return dct([(text("a"), a), (text("b"), b)])


_MANY: dict[str, tuple[str, bytes]] = {
    "laughs_of_tuples": ("E106", _doubled(30, b")", lambda a, b: a + b + b"\x86")),
    "laughs_of_lists": ("E106", _doubled(30, b"]", lambda a, b: lst([a, b]))),
    "laughs_of_dicts": ("E106", _doubled(30, b"}", _laughs_of_dicts)),
    # DUP and no memo: what counts stored keys does not see these.
    "laughs_by_dup": ("E103|E106", b")" + b"2\x86" * 30),
    "laughs_of_arrays": ("E104|E106", _doubled(30, objects([NONE]), lambda a, b: objects([a, b]))),
    # 14 levels are within the depth limit, so only counting what a walk would visit finds it.
    "laughs_wide_not_deep": (
        "E106",
        put(lst([NONE] * 64), 100) + b"".join(b"0" + put(lst([get(100 + n)] * 64), 101 + n) for n in range(8)),
    ),
    "flat_list_of_300_k": ("E106", lst([NONE] * 300_000)),
    "flat_dict_of_300_k": ("E106", dct((num(n), NONE) for n in range(300_000))),
    "flat_tuple_of_300_k": ("E106", tup(*[NONE] * 300_000)),
    "opcodes_without_objects": ("E103|E106", b"N" + b"\x94" * 1_500_000),
    "opcodes_pushed_and_popped": ("E103|E106", b"N0" * 800_000 + NONE),
    "marks_popped": ("E103|E106", b"(1" * 800_000 + NONE),
    "int_of_a_million_digits": ("E103|E104|E105|E106", b"I" + b"9" * 1_000_000 + b"\n"),
    "long_of_a_million_digits": ("E103|E104|E105|E106", b"L" + b"9" * 1_000_000 + b"L\n"),
    "long4_of_a_million_bytes": (
        "E103|E104|E106",
        b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000,
    ),
}
for _name, (_codes, _item) in _MANY.items():
    _constant(16, _name, _codes, pickled(boxed(rollout(more=[(text("extra"), _item)]))), "npz")
_constant(
    16, "laughs_of_tuples_bare", "E106", pickled(_doubled(30, b")", lambda a, b: a + b + b"\x86"), b""), "npy"
)
# One frame of 3 MB that stands 10,000 times: 30 GB for whoever decodes or stacks the frames.
_constant(
    16,
    "one_frame_ten_thousand_times",
    "E106|E107",
    pickled(
        boxed(
            rollout(
                image=lst([put(picture(1024, 1024), 100)] + [get(100)] * 9_999),
                action=array(dtype("f4"), tup(num(10_000), num(7)), raw(bytes(280_000))),
                info=lst([put(dct([(text("success"), TRUE)]), 101)] + [get(101)] * 9_999),
            )
        )
    ),
    "npz",
)


def _deep(levels: int, opening: bytes, closing: bytes) -> bytes:
    return opening * levels + closing * levels


_DEEP: dict[str, tuple[str, bytes]] = {
    "lists_2_m_deep": ("E106", b"]" * 2_000_001 + b"a" * 2_000_000),
    "tuples_2_m_deep": ("E106", b")" + b"\x85" * 2_000_000),
    "marks_2_m_deep": ("E104|E106", MARK * 2_000_000),
    "dicts_100_k_deep": ("E106", _deep(100_000, b"}N", b"") + b"}" + b"s" * 100_000),
    "dicts_50_deep": ("E106", _deep(50, b"}N", b"") + b"}" + b"s" * 50),
    "lists_40_deep": ("E106", b"]" * 41 + b"a" * 40),
    "tuples_40_deep": ("E106", b")" + b"\x85" * 40),
    "object_arrays_40_deep": ("E104|E106", functools.reduce(lambda a, _: objects([a]), range(40), NONE)),
    "list_in_itself": ("E106", put(b"]", 100) + get(100) + b"a"),
    "dict_in_itself": ("E106", put(b"}", 100) + text("a") + get(100) + b"s"),
    "dict_and_list_in_each_other": (
        "E106",
        put(b"}", 100) + text("a") + put(b"]", 101) + get(100) + b"a" + b"s",
    ),
    "tuple_in_itself": ("E106", put(b"]", 100) + get(100) + b"\x85" + b"a"),
    "array_in_itself": (
        "E104|E106",
        built(
            put(call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b")), 100),
            tup(num(1), tup(num(1)), dtype("O8"), FALSE, lst([get(100)])),
        ),
    ),
    "image_in_its_own_state": (
        "E104|E106",
        built(
            put(IMAGE + b")\x81", 100),
            lst([dct([(text("x"), get(100))]), get(100), get(100), get(100), get(100)]),
        ),
    ),
    "key_2_k_deep": ("E104|E106", b"})" + b"\x85" * 2_000 + num(1) + b"s"),
    "set_of_deep_tuples": ("E103|E104|E106", b"\x8f()" + b"\x85" * 2_000 + b"\x90"),
}
for _name, (_codes, _item) in _DEEP.items():
    _constant(17, f"deep_{_name}", _codes, pickled(boxed(rollout(more=[(text("extra"), _item)]))), "npz")
_constant(17, "deep_lists_2_m_bare", "E106", pickled(b"]" * 2_000_001 + b"a" * 2_000_000))
_constant(17, "deep_list_in_itself_bare", "E104|E106", pickled(put(b"]", 100) + get(100) + b"a"))

# -- rows 18 and 19: npy headers -----------------------------------------------------------------------

_OBJ = "'descr': '|O', 'fortran_order': False, 'shape': "
_HEADERS: dict[str, tuple[str, bytes]] = {
    "parentheses_200_k": ("E102", npy_header("(" * 200_000, 2)),
    "parentheses_200_k_in_shape": ("E102", npy_header("{" + _OBJ + "(" * 200_000 + ")" * 200_000 + "}", 2)),
    "brackets_9_k": ("E102", npy_header("[" * 9_000)),
    "braces_9_k": ("E102", npy_header("{1:" * 3_000)),
    "minus_9_k": ("E102", npy_header("{" + _OBJ + "(" + "-" * 9_000 + "1,), }")),
    "sum_9_k": ("E102", npy_header("{" + _OBJ + "(" + "1+" * 4_500 + "1,), }")),
    "of_3_mb": ("E102", npy_header("{" + _OBJ + "(), }" + " " * 3_000_000, 2)),
    "of_60_kb": ("E102", npy_header("{" + _OBJ + "(), }" + " " * 60_000)),
    "length_of_4_gib": ("E102|E105", npy_header("{" + _OBJ + "(), }", 2, 0xFFFFFFFF)),
    "length_beyond_the_file": ("E102|E105", npy_header("{" + _OBJ + "(), }", 1, 9_000)),
    "length_zero": ("E102", npy_header("{" + _OBJ + "(), }", 1, 0)),
    "call": ("E102", npy_header("{" + _OBJ + "__import__('os').getcwd(), }")),
    "dict_call": ("E102", npy_header("dict(descr='|O', fortran_order=False, shape=())")),
    "list_comprehension": ("E102", npy_header("{" + _OBJ + "tuple([1 for _ in range(10**9)]), }")),
    "power": ("E102", npy_header("{" + _OBJ + "(9**9**9**9,), }")),
    "text_times": ("E102", npy_header("{" + _OBJ + "('a'*10**12,), }")),
    "huge_integer": ("E102", npy_header("{" + _OBJ + "(" + "9" * 8_000 + ",), }")),
    "negative_shape": ("E102", npy_header("{" + _OBJ + "(-1,), }")),
    "bool_shape": ("E102", npy_header("{" + _OBJ + "(True,), }")),
    "float_shape": ("E102", npy_header("{" + _OBJ + "(1.0,), }")),
    "shape_is_text": ("E102", npy_header("{" + _OBJ + "'()', }")),
    "no_shape": ("E102", npy_header("{'descr': '|O', 'fortran_order': False, }")),
    "more_keys": ("E102", npy_header("{" + _OBJ + "(), 'x': 1, }")),
    "key_twice": ("E102", npy_header("{'descr': '<f8', " + _OBJ + "(), }")),
    "order_is_text": ("E102", npy_header("{'descr': '|O', 'fortran_order': 'no', 'shape': (), }")),
    "no_dict": ("E102", npy_header("42")),
    "nothing": ("E102", npy_header("")),
    "zero_bytes": ("E102", npy_header("\0" * 50)),
    "second_statement": ("E102", npy_header("{" + _OBJ + "(), }\nimport os")),
    "comment": ("E102", npy_header("{" + _OBJ + "(), } # " + "(" * 500)),
    "bytes_that_are_not_utf8": ("E102", npy_header("{" + _OBJ + "(), }\xff\xfe", 3)),
    "escaped_text": ("E102", npy_header("{'descr': '\\x7cO', 'fortran_order': False, 'shape': (), }")),
    "structured": (
        "E102|E104",
        npy_header("{'descr': [('f', '|O')], 'fortran_order': False, 'shape': (1,), }"),
    ),
    "nested_structure": (
        "E102|E104",
        npy_header(
            "{'descr': " + "[('f', " * 300 + "'<f8'" + ")]" * 300 + ", 'fortran_order': False, 'shape': (1,), }"
        ),
    ),
    "subarray_descr": (
        "E102|E104",
        npy_header("{'descr': '(1000000,1000000)<f8', 'fortran_order': False, 'shape': (1,), }"),
    ),
    "void_descr": ("E102|E104", npy_header_of("|V8", "(1,)")),
    "void_of_1_tib": ("E102|E104|E105", npy_header_of(f"|V{1 << 40}", "(1,)")),
    "unknown_descr": ("E102|E104", npy_header_of("<q99", "(1,)")),
}
for _name, (_codes, _bytes) in _HEADERS.items():
    _add(
        18,
        f"header_{_name}",
        _codes,
        "npy",
        lambda c, b=_bytes: b + pickled(boxed(rollout())),
    )
_add(
    18,
    "header_parentheses_200_k_in_npz",
    "E102",
    "npz",
    lambda c: npz(_HEADERS["parentheses_200_k"][1] + pickled(boxed(rollout()))),
)

_SHAPES: dict[str, tuple[str, bytes]] = {
    "floats_of_512_gib": ("E105", npy_header_of("<f8", f"({64 * GIB},)")),
    "floats_of_512_gib_in_axes": ("E105", npy_header_of("<f8", f"({1 << 12}, {1 << 12}, {1 << 12})")),
    "pixels_of_512_gib": ("E105", npy_header_of("|u1", f"({512 * GIB},)")),
    "floats_of_2_62": ("E105", npy_header_of("<f8", f"({1 << 62},)")),
    "product_wraps": ("E105", npy_header_of("<f8", f"({1 << 32}, {1 << 32})")),
    "product_wraps_to_zero_items": ("E105", npy_header_of("<f8", f"({1 << 61}, 8, 4)")),
    "text_of_512_gib": ("E102|E104|E105", npy_header_of(f"<U{1 << 37}", "(1,)")),
    "one_byte_missing": ("E105", npy_header_of("<f8", "(9,)")),
}
for _name, (_codes, _bytes) in _SHAPES.items():
    _add(19, f"shape_{_name}", _codes, "npy", lambda c, b=_bytes: b + bytes(64))
    _add(19, f"shape_{_name}_in_npz", _codes, "npz", lambda c, b=_bytes: npz(b + bytes(64)))
_add(
    19,
    "shape_zero_times_2_62",
    "E102|E104|E105",
    "npy",
    lambda c: npy_header_of("<f8", f"(0, {1 << 62}, 4)"),
)
_add(
    19,
    "shape_of_objects_2_36",
    "E102|E104|E105",
    "npy",
    lambda c: npy_object(pickled(boxed(rollout())), f"({1 << 36},)"),
)

# -- row 20: zip bombs ---------------------------------------------------------------------------------

_BOMB_MIB = 3 * 1024


def _bomb_member(*, said: int | None = None) -> Member:
    """3 GiB of pickled zeros in 3 MB. The CRC is wrong: a limit must bite long before it is compared."""
    zeros = _BOMB_MIB << 20
    head = npy_object(PROTO4 + b"\x8e" + struct.pack("<Q", zeros))
    size = len(head) + zeros + 1
    return Member(b"arr_0.npy", deflated_zeros(head, _BOMB_MIB, STOP), _or(said, size), 0)


def _small_bomb(method: int, pack: Callable[[bytes], bytes], said: int | None = None) -> bytes:
    content = npy_object(PROTO4 + b"\x8e" + struct.pack("<Q", 32 << 20)) + bytes(32 << 20) + STOP
    return archive([Member(b"arr_0.npy", pack(content), _or(said, len(content)), zlib.crc32(content), method)])


def _zip_lzma(content: bytes) -> bytes:
    """LZMA as zip stores it: version 9.4, then the length and bytes of the filter properties."""
    options = {"id": lzma.FILTER_LZMA1, "preset": 0}
    properties = struct.pack("<BI", 93, 256 << 10)
    packed = lzma.compress(content, lzma.FORMAT_RAW, filters=[options])
    return b"\x09\x04" + struct.pack("<H", len(properties)) + properties + packed


_LEGIT = npy_object(pickled(boxed(rollout())))

_add(20, "bomb_deflate_3_gib", "E107", "npz", lambda c: archive([_bomb_member()]))
_add(
    20,
    "bomb_deflate_3_gib_said_to_be_1_kib",
    "E105|E107|E108",
    "npz",
    lambda c: archive([_bomb_member(said=1024)]),
)
_add(
    20,
    "bomb_deflate_3_gib_said_to_be_4_gib",
    "E107",
    "npz",
    lambda c: archive([_bomb_member(said=0xFFFFFFFE)]),
)
_add(
    20,
    "bomb_ten_members_of_300_mib",
    "E107|E108",
    "npz",
    lambda c: archive(
        Member(f"arr_{n}.npy".encode(), deflated_zeros(b"", 300, b""), 300 << 20, 0) for n in range(10)
    ),
)
_add(20, "bomb_bz2", "E107|E108", "npz", lambda c: _small_bomb(12, bz2.compress))
_add(20, "bomb_bz2_said_to_be_1_gib", "E107|E108", "npz", lambda c: _small_bomb(12, bz2.compress, GIB))
_add(20, "bomb_bz2_said_to_be_1_kib", "E107|E108", "npz", lambda c: _small_bomb(12, bz2.compress, 1024))
_add(20, "bomb_lzma", "E107|E108", "npz", lambda c: _small_bomb(14, _zip_lzma))
for _name, _method in {"deflate64": 9, "zstandard": 93, "ppmd": 98, "xz": 95, "unknown": 77}.items():
    _add(
        20,
        f"method_{_name}",
        "E107|E108",
        "npz",
        lambda c, m=_method: archive([dataclasses.replace(member("arr_0.npy", _LEGIT), method=m)]),
    )
_add(
    20,
    "stored_said_to_be_3_gib",
    "E105|E107|E108",
    "npz",
    lambda c: archive([dataclasses.replace(member("arr_0.npy", _LEGIT, STORED), size=3 * GIB)]),
)
_add(
    20,
    "deflate_said_to_be_1_gib",
    "E105|E107|E108",
    "npz",
    lambda c: archive([dataclasses.replace(member("arr_0.npy", _LEGIT), size=GIB)]),
)

# -- row 21: archives that two readers understand differently ------------------------------------------


def _hostile(canary: Path) -> bytes:
    return npy_object(pickled(boxed(system(canary))))


def _replaced(**changes: object) -> bytes:
    return archive([dataclasses.replace(member("arr_0.npy", _LEGIT), **changes)])  # type: ignore[arg-type]


def _zip64_extra(*sizes: int) -> bytes:
    return struct.pack(f"<HH{len(sizes)}Q", 1, 8 * len(sizes), *sizes)


def _quoted_overlap(canary: Path) -> bytes:
    """The first member's stored data holds the second member whole: local header, name and data."""
    inner = _hostile(canary)
    header = struct.pack(
        "<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 33, zlib.crc32(inner), len(inner), len(inner), 9, 0
    )
    outer = _LEGIT + header + b"arr_1.npy" + inner
    first = member("arr_0.npy", outer, STORED)
    both = archive([first, member("arr_1.npy", inner, STORED)])
    at = 30 + 9 + len(_LEGIT)
    second = dataclasses.replace(member("arr_1.npy", inner, STORED), offset=at)
    assert len(both) > at
    # The second member's own copy is cut out: only its directory entry stays.
    whole = archive([first, second])
    copy = 30 + 9 + len(inner)
    start = 30 + 9 + len(outer)
    tail = whole[start + copy :]
    end = tail.index(b"PK\x05\x06")
    fixed = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, end, start, 0)
    return whole[:start] + tail[:end] + fixed


def _same_member(names: Iterable[bytes], zip64_end: bool = False) -> bytes:
    """Any number of directory entries that all name the one local member at the start."""
    whole = archive([member("arr_0.npy", _LEGIT)])
    data = deflated(_LEGIT)
    start = 30 + 9 + len(data)
    entries = bytearray()
    total = 0
    for name in names:
        total += 1
        entries += (
            struct.pack(
                "<4s6H3I5H2I",
                b"PK\x01\x02",
                20,
                20,
                0,
                8,
                0,
                33,
                zlib.crc32(_LEGIT),
                len(data),
                len(_LEGIT),
                len(name),
                0,
                0,
                0,
                0,
                0,
                0,
            )
            + name
        )
    end = bytearray()
    if zip64_end:
        end += struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, total, total, len(entries), start)
        end += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + len(entries), 1)
    short = min(total, 0xFFFF)
    end += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, short, short, len(entries), start, 0)
    return whole[:start] + bytes(entries) + bytes(end)


def _short_names(count: int) -> Iterable[bytes]:
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for number in range(count):
        high, low = divmod(number, 52)
        higher, middle = divmod(high, 52)
        yield bytes([letters[higher], letters[middle], letters[low]])


_ENTRY = member("arr_0.npy", _LEGIT)
_ARCHIVES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "overlap_same_data": ("E108", lambda c: _same_member([b"arr_0.npy", b"arr_1.npy"])),
    "overlap_same_name": ("E108", lambda c: _same_member([b"arr_0.npy", b"arr_0.npy"])),
    "overlap_quoted": ("E108", _quoted_overlap),
    "overlap_with_the_directory": (
        "E105|E108",
        lambda c: _replaced(packed_size=len(_ENTRY.data) + 40),
    ),
    "name_twice": ("E108", lambda c: archive([_ENTRY, member("arr_0.npy", _hostile(c))])),
    "name_twice_hostile_first": ("E108", lambda c: archive([member("arr_0.npy", _hostile(c)), _ENTRY])),
    "name_twice_by_case": ("E108", lambda c: archive([_ENTRY, member("ARR_0.NPY", _hostile(c))])),
    "name_twice_by_suffix": ("E108", lambda c: archive([_ENTRY, member("arr_0", _hostile(c))])),
    "name_with_zero_byte": ("E108", lambda c: archive([member(b"arr_0.npy\0.txt", _LEGIT)])),
    "name_not_utf8": (
        "E105|E108",
        lambda c: archive([_ENTRY, dataclasses.replace(member(b"\xff\xfe", b"x"), flags=0x800)]),
    ),
    "name_empty": ("E108", lambda c: archive([_ENTRY, member("", _hostile(c))])),
    "name_in_other_case": ("E108", lambda c: archive([member("ARR_0.npy", _LEGIT)])),
    "name_missing": ("E108", lambda c: archive([member("data.npy", _LEGIT)])),
    "no_members": ("E108", lambda c: archive([])),
    "more_members": ("E108", lambda c: archive([_ENTRY, member("arr_1.npy", _hostile(c))])),
    "directory_member": ("E108", lambda c: archive([member("arr_0.npy/", b"", STORED)])),
    "two_names_for_one_member": ("E108", lambda c: _replaced(local_name=b"evil0.npy")),
    "two_names_of_two_lengths": ("E108", lambda c: _replaced(local_name=b"a.npy")),
    "two_methods": ("E105|E108", lambda c: _replaced(local_method=STORED)),
    "two_sizes": ("E105|E108", lambda c: _replaced(local_size=7)),
    "two_checksums": ("E105|E108", lambda c: _replaced(local_crc=7)),
    "two_sets_of_flags": ("E105|E108", lambda c: _replaced(local_flags=1)),
    "wrong_checksum": ("E105|E108", lambda c: _replaced(crc=7)),
    "encrypted": ("E108", lambda c: _replaced(flags=1)),
    "strongly_encrypted": ("E108", lambda c: _replaced(flags=0x41)),
    "masked_headers": ("E108", lambda c: _replaced(flags=0x2001)),
    "patch_data": ("E105|E108", lambda c: _replaced(flags=0x20)),
    "zip64_sizes_of_2_62": (
        "E105|E107|E108",
        lambda c: _replaced(
            size=0xFFFFFFFF,
            packed_size=0xFFFFFFFF,
            extra=_zip64_extra(1 << 62, 1 << 62),
            local_extra=_zip64_extra(1 << 62, 1 << 62),
        ),
    ),
    "zip64_size_of_2_64": (
        "E105|E107|E108",
        lambda c: _replaced(size=0xFFFFFFFF, extra=_zip64_extra((1 << 64) - 1)),
    ),
    "zip64_extra_missing": ("E105|E107|E108", lambda c: _replaced(size=0xFFFFFFFF)),
    "zip64_extra_cut": (
        "E105|E107|E108",
        lambda c: _replaced(size=0xFFFFFFFF, extra=b"\x01\x00\x08\x00abc"),
    ),
    "zip64_offset_far_away": (
        "E105|E108",
        lambda c: _replaced(offset=0xFFFFFFFF, extra=_zip64_extra(1 << 50)),
    ),
    "zip64_other_size_in_local_header": (
        "E105|E107|E108",
        lambda c: _replaced(local_size=0xFFFFFFFF, local_extra=_zip64_extra(1 << 62, 1 << 62)),
    ),
    "extra_longer_than_it_says": ("E105|E108", lambda c: _replaced(extra=b"\x99\x99\xff\xff")),
    "offset_beyond_the_end": ("E105|E108", lambda c: _replaced(offset=0x7FFFFFFF)),
    "offset_at_the_directory": ("E105|E108", lambda c: _replaced(offset=39 + len(_ENTRY.data))),
    "data_after_the_end": ("E108", lambda c: archive([_ENTRY], after=b"\n#!/bin/sh\n")),
    "data_after_the_end_64_kb": ("E108|E105", lambda c: archive([_ENTRY], after=bytes(70_000))),
    "second_archive_after_the_first": ("E108", lambda c: archive([_ENTRY]) + npz(_hostile(c))),
    "data_before_the_start": ("E108", lambda c: b"#!/bin/sh\nexit 0\n" + archive([_ENTRY])),
    "data_before_the_start_counted": ("E108", lambda c: archive([_ENTRY], before=b"MZ" + bytes(500))),
    "data_between_members": (
        "E108",
        lambda c: archive([dataclasses.replace(_ENTRY, after=b"PK\x03\x04" + bytes(900))]),
    ),
    "comment": ("E108", lambda c: archive([_ENTRY], comment=b"hello")),
    "comment_with_another_end": ("E108", lambda c: archive([_ENTRY], comment=npz(_hostile(c)))),
    "count_too_small": ("E105|E108", lambda c: archive([_ENTRY, member("arr_1.npy", _hostile(c))], count=1)),
    "count_too_large": ("E105|E108", lambda c: archive([_ENTRY], count=60_000)),
    "several_disks": ("E105|E108", lambda c: archive([_ENTRY], disk=1)),
    "directory_of_4_gib": ("E105|E108", lambda c: archive([_ENTRY], directory_size=0xFFFFFFF0)),
    "directory_elsewhere": ("E105|E108", lambda c: archive([_ENTRY], directory_at=5)),
    "end_record_only": ("E108", lambda c: b"PK\x05\x06" + bytes(18)),
    "cut_in_the_directory": ("E105|E108", lambda c: archive([_ENTRY])[:-40]),
    "cut_in_the_data": ("E105|E108", lambda c: archive([_ENTRY])[:100]),
    "symbolic_link": (
        "E102|E108",
        lambda c: archive(
            [
                Member(
                    b"arr_0.npy",
                    str(c).encode(),
                    len(str(c)),
                    zlib.crc32(str(c).encode()),
                    STORED,
                    attributes=0o120777 << 16,
                )
            ]
        ),
    ),
    "members_100_k": ("E108", lambda c: _same_member(_short_names(100_000), zip64_end=True)),
    "members_100_k_said_to_be_one": (
        "E105|E108",
        lambda c: (
            _same_member(_short_names(100_000))[:-22]
            + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, 100_000 * 49, 39 + len(_ENTRY.data), 0)
        ),
    ),
    "members_40_k_with_data": (
        "E108",
        lambda c: archive(member(n, b"", STORED) for n in _short_names(40_000)),
    ),
    "name_of_60_kb": ("E108", lambda c: archive([_ENTRY, member("a" * 60_000, b"x")])),
}
for _name, (_codes, _content) in _ARCHIVES.items():
    _add(21, f"archive_{_name}", _codes, "npz", _content)

# -- row 22: member names that lead elsewhere ----------------------------------------------------------

for _name, _where in {
    "parents": lambda c: "../../" + c.name,
    "absolute": lambda c: str(c),
    "parents_after_name": lambda c: "arr_0.npy/../../../" + c.name,
    "backslashes": lambda c: "..\\..\\" + c.name,
    "drive": lambda c: "C:\\Windows\\arr_0.npy",
    "share": lambda c: "//server/share/arr_0.npy",
    "device": lambda c: "NUL",
    "device_with_ending": lambda c: "CON.npy",
    "dev_stdin": lambda c: "/dev/stdin",
    "proc_self_mem": lambda c: "/proc/self/mem",
    "stream": lambda c: "arr_0.npy:stream",
    "current_folder": lambda c: "./arr_0.npy",
    "line_break": lambda c: "a\nb.npy",
    "terminal_escape": lambda c: "\x1b]0;title\x07\u202e.npy",
}.items():
    _add(22, f"member_{_name}", "E108", "npz", lambda c, w=_where: archive([_ENTRY, member(w(c), b"x")]))
    _add(22, f"member_{_name}_alone", "E108", "npz", lambda c, w=_where: npz(_LEGIT, w(c)))

# -- rows 34 and 35: images ----------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, more: bytes = b"", depth: int = 8) -> bytes:
    """A PNG file whose image data is the zlib stream ``pixels``."""
    head = _chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def zlib_zeros(size: int) -> bytes:
    """A whole zlib stream of ``size`` zeros, checksum included, made without compressing them all."""
    blocks, rest = divmod(size, 1 << 20)
    checksum = (size % 65521) << 16 | 1  # Adler-32 of zeros
    return (
        b"\x78\xda" + _zero_block(raw_stream=False) * blocks + deflated(bytes(rest)) + struct.pack(">I", checksum)
    )


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG that declares its size and then has no scan to speak of."""
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    tables = b"\xff\xdb" + struct.pack(">H", 67) + b"\0" + b"\1" * 64
    start = b"\xff\xc0" + struct.pack(">H", 2 + len(frame)) + frame
    return (
        b"\xff\xd8" + tables + start + b"\xff\xda\x00\x0c\x03\x01\x00\x02\x00\x03\x00\x00\x3f\x00" + b"\0\xff\xd9"
    )


def _encoded(data: bytes) -> bytes:
    """A rollout whose frames are the bytes of an image file, each as a Python bytes object."""
    return rollout(image=lst([raw(data)] * (STEPS + 1)), more=[(text("is_image_encode"), TRUE)])


def _encoded_arrays(data: bytes) -> bytes:
    """The same with one-dimensional uint8 arrays, as the motion planner stores them."""
    frame = array(dtype("u1"), tup(num(len(data))), raw(data))
    return rollout(image=lst([frame] * (STEPS + 1)), more=[(text("is_image_encode"), TRUE)])


_GIF = (
    b"GIF89a" + struct.pack("<2H", 60_000, 60_000) + b"\x00\x00\x00,\x00\x00\x00\x00\x60\xea\x60\xea\x00\x02\x00;"
)
_TINY = zlib.compress(b"\0" * 13 * 3, 9)
_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png_13000": ("E107", lambda: png(13_000, 13_000, zlib_zeros(13_000 * (13_000 * 3 + 1)))),
    "png_4097": ("E107", lambda: png(4_097, 4_097, zlib_zeros(4_097 * (4_097 * 3 + 1)))),
    "png_60000_without_data": ("E107", lambda: png(60_000, 60_000, _TINY)),
    "png_2_31_wide": ("E107", lambda: png((1 << 31) - 1, 1, _TINY)),
    "png_2_31_square": ("E107", lambda: png((1 << 31) - 1, (1 << 31) - 1, _TINY)),
    "png_2_32_high": ("E107|E109", lambda: png(1, (1 << 32) - 1, _TINY)),
    "png_flat": ("E107", lambda: png(1_000_000, 1, zlib_zeros(3_000_001))),
    "jpeg_65500": ("E107", lambda: jpeg_header(65_500, 65_500)),
    "jpeg_65535_by_1": ("E107|E109", lambda: jpeg_header(65_535, 1)),
    "gif": ("E104|E107|E109", lambda: _GIF),
    "bmp": (
        "E104|E107|E109",
        lambda: (
            b"BM"
            + struct.pack("<I2HI", 54, 0, 0, 54)
            + struct.pack("<I2i2H6I", 40, 60_000, 60_000, 1, 24, *[0] * 6)
        ),
    ),
    "tiff": (
        "E104|E107|E109",
        lambda: (
            b"II*\0\x08\0\0\0\x02\0" + struct.pack("<2HIIHHII", 256, 4, 1, 60_000, 257, 4, 1, 60_000) + bytes(4)
        ),
    ),
    "eps": (
        "E104|E107|E109",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60000 60000\n%%EndComments\nshowpage\n",
    ),
    "ppm": ("E104|E107|E109", lambda: b"P6\n60000 60000\n255\n" + bytes(12)),
    "webp": (
        "E104|E107|E109",
        lambda: b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8L" + struct.pack("<I", 14) + bytes(14),
    ),
    "svg": (
        "E104|E107|E109",
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    ),
    "no_image_at_all": ("E104|E107|E109", lambda: b"\0" * 100),
    "empty": ("E104|E105|E107|E109", lambda: b""),
    "png_signature_only": ("E104|E105|E107|E109", lambda: b"\x89PNG\r\n\x1a\n"),
    "png_cut": ("E104|E105|E107|E109", lambda: png(64, 64, zlib_zeros(64 * 193))[:60]),
    "png_more_data_than_declared": ("|E104|E105|E107|E109", lambda: png(4, 3, zlib_zeros(512 << 20))),
    "png_text_of_256_mib": (
        "|E104|E105|E107|E109",
        lambda: png(4, 3, _TINY, _chunk(b"zTXt", b"k\0\0" + zlib_zeros(256 << 20))),
    ),
    "png_profile_of_256_mib": (
        "|E104|E105|E107|E109",
        lambda: png(4, 3, _TINY, _chunk(b"iCCP", b"k\0\0" + zlib_zeros(256 << 20))),
    ),
    "png_two_headers": (
        "|E104|E105|E107|E109",
        lambda: png(4, 3, _TINY, _chunk(b"IHDR", struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0))),
    ),
}
for _name, (_codes, _make) in _BOMBS.items():
    _pickle_case(34, f"image_{_name}", _codes, lambda c, m=_make: pickled(boxed(_encoded(m()))), "npz")
for _name in ("png_13000", "jpeg_65500", "gif", "eps"):
    _codes, _make = _BOMBS[_name]
    _pickle_case(
        34, f"image_{_name}_as_array", _codes, lambda c, m=_make: pickled(boxed(_encoded_arrays(m()))), "npz"
    )


def _image_state(*items: bytes) -> bytes:
    return pil_image(lst(items))


_SIZE = tup(num(4), num(3))
_STATES: dict[str, bytes] = {
    "size_60000_of_1_byte": picture(60_000, 60_000, b"x"),
    "size_2_31": picture((1 << 31) - 1, (1 << 31) - 1, b"x"),
    "size_whose_product_wraps": _image_state(b"}", text("RGB"), tup(num(1 << 32), num(1 << 32)), NONE, raw(b"")),
    "size_negative": picture(-4, -3, bytes(36)),
    "size_zero": picture(0, 0, b""),
    "size_of_floats": _image_state(b"}", text("RGB"), tup(real(4.0), real(3.0)), NONE, raw(bytes(36))),
    "size_of_bools": _image_state(b"}", text("RGB"), tup(TRUE, TRUE), NONE, raw(bytes(3))),
    "size_of_three": _image_state(b"}", text("RGB"), tup(num(4), num(3), num(1)), NONE, raw(bytes(36))),
    "size_is_none": _image_state(b"}", text("RGB"), NONE, NONE, raw(bytes(36))),
    "data_one_byte_short": picture(data=bytes(35)),
    "data_one_byte_long": picture(data=bytes(37)),
    "data_of_text": _image_state(b"}", text("RGB"), _SIZE, NONE, text("x" * 36)),
    "data_is_none": _image_state(b"}", text("RGB"), _SIZE, NONE, NONE),
    "data_is_a_list": _image_state(b"}", text("RGB"), _SIZE, NONE, lst([num(0)] * 36)),
    "mode_rgba_of_rgb_bytes": picture(mode="RGBA"),
    "mode_unknown": picture(mode="XYZ"),
    "mode_empty": picture(mode=""),
    "mode_float": picture(data=bytes(48), mode="F"),
    "mode_16_bit": picture(data=bytes(24), mode="I;16"),
    "mode_packed_bits": picture(data=bytes(3), mode="1"),
    "mode_of_1_mb": picture(mode="RGB" * 333_333),
    "mode_is_a_number": _image_state(b"}", num(3), _SIZE, NONE, raw(bytes(36))),
    "palette_missing": picture(data=bytes(12), mode="P"),
    "palette_of_text": _image_state(b"}", text("P"), _SIZE, lst([text("x")] * 3), raw(bytes(12))),
    "palette_out_of_range": _image_state(b"}", text("P"), _SIZE, lst([num(300)] * 3), raw(bytes(12))),
    "palette_too_long": _image_state(b"}", text("P"), _SIZE, lst([num(0)] * 5_000), raw(bytes(12))),
    "state_of_three": _image_state(b"}", text("RGB"), _SIZE),
    "state_of_thirty": _image_state(b"}", text("RGB"), _SIZE, NONE, raw(bytes(36)), *[NONE] * 25),
    "state_is_a_dict": pil_image(dct([(text("im"), num(1)), (text("_size"), _SIZE)])),
    "state_is_bytes": pil_image(raw(bytes(36))),
    "state_is_none": pil_image(NONE),
    "state_missing": IMAGE + b")\x81",
    "state_twice": built(picture(), lst([b"}", text("RGB"), tup(num(60_000), num(60_000)), NONE, raw(b"x")])),
    "jpeg_class_size_60000": pil_image(
        lst([b"}", text("RGB"), tup(num(60_000), num(60_000)), NONE, raw(b"x"), num(3), num(3), lst([])]),
        glob("PIL.JpegImagePlugin", "JpegImageFile"),
    ),
    "png_class_size_60000": pil_image(
        lst([b"}", text("RGB"), tup(num(60_000), num(60_000)), NONE, raw(b"x")]),
        glob("PIL.PngImagePlugin", "PngImageFile"),
    ),
}
for _name, _item in _STATES.items():
    _constant(35, f"frame_{_name}", "E104", pickled(boxed(rollout(image=lst([_item] * (STEPS + 1))))), "npz")

# -- row 37: what is not a regular file ----------------------------------------------------------------


def _special(name: str, make: Callable[[Path, Path], None]) -> None:
    def build(folder: Path, canary: Path) -> Path:
        path = folder / f"special_{name}.npy"
        make(path, canary)
        return path

    _ATTACKS.append(Attack(37, f"special_{name}", frozenset({"E131"}), build))


_special("fifo", lambda path, canary: os.mkfifo(path))  # opening one blocks unless told not to
_special("folder", lambda path, canary: path.mkdir())
_special("link_to_dev_zero", lambda path, canary: path.symlink_to("/dev/zero"))
_special("link_to_itself", lambda path, canary: path.symlink_to(path.name))

ATTACKS: tuple[Attack, ...] = tuple(_ATTACKS)
assert len({attack.name for attack in ATTACKS}) == len(ATTACKS), "attack names repeat"
