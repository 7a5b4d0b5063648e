/* The mixing function of scrypt (RFC 7914), on which lib/_wisp_kdf.py builds. */
#include "Python.h"

#include <stdint.h>
#include <string.h>

#define SALSA_WORDS 16
#define SALSA_BYTES (SALSA_WORDS * 4)

static uint32_t rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

static void quarter(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *b ^= rotate(*a + *d, 7);
    *c ^= rotate(*b + *a, 9);
    *d ^= rotate(*c + *b, 13);
    *a ^= rotate(*d + *c, 18);
}

/* Section 3. WebAssembly is little endian, as the RFC wants it. */
static void salsa20_8(uint32_t block[SALSA_WORDS])
{
    uint32_t x[SALSA_WORDS];
    memcpy(x, block, SALSA_BYTES);
    for (int round = 0; round < 8; round += 2) {
        quarter(&x[0], &x[4], &x[8], &x[12]);
        quarter(&x[5], &x[9], &x[13], &x[1]);
        quarter(&x[10], &x[14], &x[2], &x[6]);
        quarter(&x[15], &x[3], &x[7], &x[11]);
        quarter(&x[0], &x[1], &x[2], &x[3]);
        quarter(&x[5], &x[6], &x[7], &x[4]);
        quarter(&x[10], &x[11], &x[8], &x[9]);
        quarter(&x[15], &x[12], &x[13], &x[14]);
    }
    for (int index = 0; index < SALSA_WORDS; index++) {
        block[index] += x[index];
    }
}

static void exclusive_or(uint32_t *into, const uint32_t *from, size_t words)
{
    for (size_t index = 0; index < words; index++) {
        into[index] ^= from[index];
    }
}

/* Section 4, scryptBlockMix: `block` and `out` have 2 * r parts of 64 bytes. */
static void block_mix(const uint32_t *block, uint32_t *out, size_t r)
{
    uint32_t x[SALSA_WORDS];
    memcpy(x, block + (2 * r - 1) * SALSA_WORDS, SALSA_BYTES);
    for (size_t part = 0; part < 2 * r; part++) {
        exclusive_or(x, block + part * SALSA_WORDS, SALSA_WORDS);
        salsa20_8(x);
        size_t place = part / 2 + (part % 2) * r;
        memcpy(out + place * SALSA_WORDS, x, SALSA_BYTES);
    }
}

/* Section 5, scryptROMix: `table` has room for n blocks, `other` for one. */
static void rom_mix(uint32_t *block, uint32_t *other, uint32_t *table, size_t n, size_t r)
{
    size_t words = 2 * r * SALSA_WORDS;
    for (size_t index = 0; index < n; index++) {
        memcpy(table + index * words, block, words * 4);
        block_mix(block, other, r);
        memcpy(block, other, words * 4);
    }
    for (size_t index = 0; index < n; index++) {
        size_t chosen = block[(2 * r - 1) * SALSA_WORDS] & (n - 1);
        exclusive_or(block, table + chosen * words, words);
        block_mix(block, other, r);
        memcpy(block, other, words * 4);
    }
}

/* mix(block, n, r): n is a power of two, block has 128 * r bytes. */
static PyObject *mix(PyObject *module, PyObject *args)
{
    Py_buffer given;
    Py_ssize_t n, r;
    if (!PyArg_ParseTuple(args, "y*nn:mix", &given, &n, &r)) {
        return NULL;
    }
    PyObject *result = NULL;
    uint32_t *memory = NULL;
    if (n < 2 || (n & (n - 1)) != 0 || r < 1 || r > PY_SSIZE_T_MAX / 128 / (n + 2) || given.len != 128 * r) {
        PyErr_SetString(PyExc_ValueError, "parameters out of range");
        goto done;
    }
    size_t words = (size_t)given.len / 4;
    memory = PyMem_Malloc(((size_t)n + 2) * words * 4);
    if (memory == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    uint32_t *block = memory, *other = block + words, *table = other + words;
    memcpy(block, given.buf, (size_t)given.len);
    rom_mix(block, other, table, (size_t)n, (size_t)r);
    result = PyBytes_FromStringAndSize((const char *)block, given.len);
done:
    PyMem_Free(memory);
    PyBuffer_Release(&given);
    return result;
}

static PyMethodDef methods[] = {
    {"mix", mix, METH_VARARGS, "scryptROMix of RFC 7914: mix(block, n, r)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_wisp_scrypt", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__wisp_scrypt(void)
{
    return PyModuleDef_Init(&definition);
}
