//! Taking what is not needed to run it out of a WebAssembly module.

/// First bytes of a core module of version 1.
const HEADER: &[u8; 8] = b"\0asm\x01\0\0\0";
/// Number of a custom section: names, debug information.
const CUSTOM: u8 = 0;

/// Why bytes are not a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ModuleError {
    /// Other first bytes.
    #[error("not a WebAssembly core module")]
    NotAModule,
    /// A section that ends behind the end of the file.
    #[error("a section of the WebAssembly module is cut off")]
    Truncated,
}

/// The module without its custom sections. The rest is left as it is: the compiler checks it.
pub(super) fn strip(wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let mut rest = wasm.strip_prefix(HEADER).ok_or(ModuleError::NotAModule)?;
    let mut out = Vec::with_capacity(wasm.len());
    out.extend_from_slice(HEADER);
    while let Some((&id, after)) = rest.split_first() {
        let (len, body) = length(after)?;
        let next = body.get(len..).ok_or(ModuleError::Truncated)?;
        if id != CUSTOM {
            out.extend_from_slice(&rest[..rest.len() - next.len()]);
        }
        rest = next;
    }
    Ok(out)
}

/// Reads an unsigned LEB128 number of 32 bits.
fn length(bytes: &[u8]) -> Result<(usize, &[u8]), ModuleError> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| ModuleError::Truncated)?;
            return Ok((value as usize, &bytes[index + 1..]));
        }
    }
    Err(ModuleError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_sections_are_dropped_and_others_kept() {
        let module = [HEADER, &[0, 3, 1, b'x', 9][..], &[1, 1, 0], &[0, 2, 1, b'y']].concat();
        assert_eq!(strip(&module).unwrap(), [HEADER, &[1, 1, 0][..]].concat());
    }

    #[test]
    fn hostile_modules_are_refused_without_a_panic() {
        assert_eq!(strip(b""), Err(ModuleError::NotAModule));
        assert_eq!(strip(b"\0asm\x0d\0\x01\0"), Err(ModuleError::NotAModule));
        for tail in [
            &[1][..],
            &[1, 5, 0],
            &[1, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
        ] {
            assert_eq!(strip(&[HEADER, tail].concat()), Err(ModuleError::Truncated), "{tail:?}");
        }
    }
}
