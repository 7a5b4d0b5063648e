"""Memory maps without a memory that can be mapped: the bytes are read at the start and written back by flush and close.

Enough for programs that read a file this way or are its only writer.
"""

import os

ACCESS_DEFAULT, ACCESS_READ, ACCESS_WRITE, ACCESS_COPY = range(4)
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_ANON = 1, 2, 32, 32
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
PAGESIZE = ALLOCATIONGRANULARITY = 65536

error = OSError


class mmap(bytearray):
    """A file's bytes, or zeros when the descriptor is -1."""

    def __init__(
        self,
        fileno,
        length,
        flags=MAP_SHARED,
        prot=PROT_READ | PROT_WRITE,
        access=ACCESS_DEFAULT,
        offset=0,
        *,
        trackfd=True,
    ):
        if length < 0 or offset < 0 or offset % ALLOCATIONGRANULARITY:
            raise OverflowError("length and offset must be positive, and offset a multiple of ALLOCATIONGRANULARITY")
        self._file = -1
        self._position = 0
        self._offset = offset
        self._writable = access != ACCESS_READ and (access != ACCESS_DEFAULT or bool(prot & PROT_WRITE))
        self.closed = False
        if fileno == -1:
            super().__init__(length)
            return
        size = os.fstat(fileno).st_size
        if length == 0:
            length = size - offset
        if length <= 0:
            raise ValueError("cannot mmap an empty file")
        if length > size - offset:
            raise ValueError("mmap length is greater than file size")
        data = bytearray()
        while len(data) < length and (part := os.pread(fileno, length - len(data), offset + len(data))):
            data += part
        super().__init__(data)
        if self._writable and access != ACCESS_COPY and flags & MAP_SHARED:
            self._file = os.dup(fileno)

    def __getitem__(self, index):
        found = super().__getitem__(index)
        return bytes(found) if isinstance(index, slice) else found

    def __setitem__(self, index, value):
        if not self._writable:
            raise TypeError("mmap can't modify a readonly memory map.")
        if isinstance(index, slice) and len(range(*index.indices(len(self)))) != len(value):
            raise IndexError("mmap slice assignment is wrong size")
        super().__setitem__(index, value)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()

    def flush(self, offset=0, size=None, /):
        """Writes the bytes to the file."""
        if self._file >= 0:
            end = len(self) if size is None else offset + size
            os.pwrite(self._file, self[offset:end], self._offset + offset)

    def close(self):
        """Writes the bytes to the file and forgets it."""
        if not self.closed:
            self.closed = True
            self.flush()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def size(self):
        """Bytes of the file, or of the map when there is none."""
        return os.fstat(self._file).st_size if self._file >= 0 else len(self)

    def tell(self):
        """The position for read and write."""
        return self._position

    def seek(self, position, whence=os.SEEK_SET):
        """Sets the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self)}[whence]
        if not 0 <= base + position <= len(self):
            raise ValueError("seek out of range")
        self._position = base + position
        return self._position

    def read(self, count=None, /):
        """The bytes from the position on."""
        end = len(self) if count is None or count < 0 else self._position + count
        data = self[self._position : end]
        self._position += len(data)
        return data

    def read_byte(self):
        """The byte at the position."""
        data = self.read(1)
        if not data:
            raise ValueError("read byte out of range")
        return data[0]

    def readline(self):
        """The bytes from the position to the end of the line."""
        end = self.find(b"\n", self._position)
        return self.read(None if end < 0 else end + 1 - self._position)

    def write(self, data, /):
        """Puts bytes at the position."""
        if self._position + len(data) > len(self):
            raise ValueError("data out of range")
        self[self._position : self._position + len(data)] = data
        self._position += len(data)
        return len(data)

    def write_byte(self, byte, /):
        """Puts a byte at the position."""
        self.write(bytes([byte]))

    def move(self, target, source, count, /):
        """Copies bytes within the map."""
        self[target : target + count] = self[source : source + count]

    def madvise(self, *_):
        """Advice, which is not needed."""
