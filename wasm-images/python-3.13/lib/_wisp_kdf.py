"""hashlib.pbkdf2_hmac and hashlib.scrypt, which elsewhere come from OpenSSL."""

import operator

import _wisp_scrypt

DEFAULT_MEMORY = 32 << 20


def pbkdf2_hmac(hash_name, password, salt, iterations, dklen=None):
    """Password based key derivation function 2 (PKCS #5 v2.0) with HMAC as pseudorandom function."""
    import hashlib

    if not isinstance(hash_name, str):
        raise TypeError(hash_name)
    password, salt = (bytes(memoryview(value)) for value in (password, salt))
    iterations = operator.index(iterations)
    inner, outer = hashlib.new(hash_name), hashlib.new(hash_name)
    if dklen is None:
        dklen = outer.digest_size
    if iterations < 1:
        raise ValueError("iteration value must be greater than 0.")
    if dklen < 1:
        raise ValueError("key length must be greater than 0.")
    # The HMAC of RFC 2104, with the padded key hashed once only.
    if len(password) > inner.block_size:
        password = hashlib.new(hash_name, password).digest()
    password = password.ljust(inner.block_size, b"\0")
    inner.update(bytes(byte ^ 0x36 for byte in password))
    outer.update(bytes(byte ^ 0x5C for byte in password))

    def hmac(message, copy_inner=inner.copy, copy_outer=outer.copy):
        within, around = copy_inner(), copy_outer()
        within.update(message)
        around.update(within.digest())
        return around.digest()

    key = b""
    block = 1
    while len(key) < dklen:
        mixed = hmac(salt + block.to_bytes(4))
        total = int.from_bytes(mixed)
        for _ in range(iterations - 1):
            mixed = hmac(mixed)
            total ^= int.from_bytes(mixed)
        key += total.to_bytes(inner.digest_size)
        block += 1
    return key[:dklen]


def scrypt(password, *, salt, n, r, p, maxmem=0, dklen=64):
    """scrypt password-based key derivation function (RFC 7914)."""
    if n < 2 or n & (n - 1):
        raise ValueError("n must be a power of 2.")
    if r < 1 or p < 1 or r * p >= 1 << 30:
        raise ValueError("r and p must be positive, and r * p less than 2**30.")
    if not 0 <= maxmem < 1 << 31:
        raise ValueError("maxmem must be positive and smaller than 2147483647")
    if dklen < 1:
        raise ValueError("dklen must be greater than 0")
    block = 128 * r
    if block * (n + p + 2) > (maxmem or DEFAULT_MEMORY):
        raise ValueError("Invalid parameter combination for n, r, p, maxmem.")
    mixed = pbkdf2_hmac("sha256", password, salt, 1, block * p)
    mixed = b"".join(_wisp_scrypt.mix(mixed[start : start + block], n, r) for start in range(0, block * p, block))
    return pbkdf2_hmac("sha256", password, mixed, 1, dklen)
