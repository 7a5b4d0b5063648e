//! Checked access to a guest's linear memory: the only way host functions read or write it.
//!
//! Preview1 passes addresses and lengths as unsigned 32-bit numbers that the guest chose. Nothing here trusts them:
//! a range that leaves the memory is [`Errno::Fault`].

use super::errno::Errno;

/// Most buffers one scatter or gather call may name (`IOV_MAX` of Linux).
const MAX_IOVECS: u32 = 1024;

/// A guest's linear memory for the length of one host call.
pub struct GuestMemory<'a> {
    bytes: &'a mut [u8],
}

/// One buffer of a scatter or gather call: where it starts and how long it is.
#[derive(Debug, Clone, Copy)]
pub struct IoVec {
    /// Guest address.
    pub address: u32,
    /// Bytes.
    pub len: u32,
}

impl<'a> GuestMemory<'a> {
    /// Wraps the bytes of a linear memory.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// `len` bytes at `address`.
    pub fn slice(&self, address: u32, len: u32) -> Result<&[u8], Errno> {
        let start = address as usize;
        let end = start.checked_add(len as usize).ok_or(Errno::Fault)?;
        self.bytes.get(start..end).ok_or(Errno::Fault)
    }

    /// `len` writable bytes at `address`.
    pub fn slice_mut(&mut self, address: u32, len: u32) -> Result<&mut [u8], Errno> {
        let start = address as usize;
        let end = start.checked_add(len as usize).ok_or(Errno::Fault)?;
        self.bytes.get_mut(start..end).ok_or(Errno::Fault)
    }

    /// Copies `bytes` to `address`.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?;
        self.slice_mut(address, len)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a little-endian 32-bit number.
    pub fn write_u32(&mut self, address: u32, value: u32) -> Result<(), Errno> {
        self.write(address, &value.to_le_bytes())
    }

    /// Writes a little-endian 64-bit number.
    pub fn write_u64(&mut self, address: u32, value: u64) -> Result<(), Errno> {
        self.write(address, &value.to_le_bytes())
    }

    /// A path or name: bytes without NUL.
    pub fn path(&self, address: u32, len: u32) -> Result<&[u8], Errno> {
        let bytes = self.slice(address, len)?;
        if bytes.contains(&0) {
            Err(Errno::Inval)
        } else {
            Ok(bytes)
        }
    }

    /// The `count` buffers described at `address`. They are not checked to lie in the memory: the access that follows is.
    pub fn iovecs(&self, address: u32, count: u32) -> Result<impl Iterator<Item = IoVec> + use<>, Errno> {
        if count > MAX_IOVECS {
            return Err(Errno::Inval);
        }
        let table = self.slice(address, count * 8)?;
        let vectors: Vec<IoVec> = table
            .chunks_exact(8)
            .map(|entry| IoVec {
                address: u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]),
                len: u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]),
            })
            .filter(|vector| vector.len > 0)
            .collect();
        Ok(vectors.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_leaves_the_memory_is_a_fault() {
        let mut bytes = [0u8; 16];
        let mut memory = GuestMemory::new(&mut bytes);
        assert_eq!(memory.slice(8, 9).unwrap_err(), Errno::Fault);
        assert_eq!(memory.slice(u32::MAX, u32::MAX).unwrap_err(), Errno::Fault);
        assert_eq!(memory.write_u32(13, 1).unwrap_err(), Errno::Fault);
        assert!(memory.write_u32(12, 1).is_ok());
    }

    #[test]
    fn an_excessive_count_of_buffers_is_invalid() {
        let mut bytes = [0u8; 16];
        let memory = GuestMemory::new(&mut bytes);
        assert!(matches!(memory.iovecs(0, u32::MAX), Err(Errno::Inval)));
        assert!(matches!(memory.iovecs(0, 3), Err(Errno::Fault)));
        assert!(memory.iovecs(0, 2).is_ok());
    }

    #[test]
    fn a_path_with_a_nul_is_invalid() {
        let mut bytes = *b"a\0b";
        let memory = GuestMemory::new(&mut bytes);
        assert_eq!(memory.path(0, 3).unwrap_err(), Errno::Inval);
        assert_eq!(memory.path(0, 1).unwrap(), b"a");
    }
}
