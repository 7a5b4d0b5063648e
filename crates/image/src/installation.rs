//! The door for what builds images: it adds modules and layers to a store, and records of images last.

use wisp_kernel::{CompiledModule, Engines};
use wisp_vfs::Tree;

use super::digest::Digest;
use super::error::ImageError;
use super::private_dir::{Lock, PrivateDir};
use super::progress::{Progress, Step};
use super::record::Record;
use super::store::ImageStore;
use super::{compile, layer, load};

/// An installation in progress: holds back all others until it is dropped.
pub struct Installation<'a> {
    store: &'a ImageStore,
    _lock: Lock,
}

impl ImageStore {
    /// Begins to install something that was built here. Waits until no one else installs.
    ///
    /// # Errors
    /// When the store cannot be locked.
    pub fn begin_installation(&self) -> Result<Installation<'_>, ImageError> {
        Ok(Installation {
            _lock: self.dir().lock()?,
            store: self,
        })
    }
}

impl Installation<'_> {
    /// The directory of the store.
    #[must_use]
    pub fn dir(&self) -> &PrivateDir {
        self.store.dir()
    }

    /// The image of this very name, if it is installed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn record(&self, name: &str) -> Result<Option<Record>, ImageError> {
        self.store.record(name)
    }

    /// Adds a module.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_module(&self, wasm: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(wasm);
        let name = compile::wasm_name(digest);
        let good = self.dir().read(&name)?.is_some_and(|stored| stored == wasm);
        if !good {
            self.dir().write(&name, wasm)?;
        }
        Ok(digest)
    }

    /// Adds a packed directory tree.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_layer(&self, packed: &[u8]) -> Result<Digest, ImageError> {
        layer::store(self.dir(), packed)
    }

    /// Compiles a module that was built here, in this process, for each engine that has no code of it.
    ///
    /// # Errors
    /// When it is not WebAssembly that the engine takes.
    pub fn compile(
        &self,
        image: &str,
        what: &str,
        module: Digest,
        engines: &Engines,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        for engine in engines.compiled_for() {
            if !compile::is_compiled(self.dir(), engine, module)? {
                progress.step(image, Step::Compile, what);
                compile::compile(self.dir(), engine, module)?;
            }
        }
        Ok(())
    }

    /// The code of a module that [`Self::compile`] has compiled.
    ///
    /// # Errors
    /// When it is not there.
    pub fn load_module(&self, engines: &Engines, module: Digest) -> Result<CompiledModule, ImageError> {
        let loaded = compile::load_compiled(self.dir(), engines, module)?;
        loaded.ok_or_else(|| ImageError::Damaged(compile::wasm_name(module)))
    }

    /// The files of a chain of images, the lowest first.
    ///
    /// # Errors
    /// When they do not fit on top of each other.
    pub fn tree(&self, chain: &[Record]) -> Result<Tree, ImageError> {
        load::tree(self.store, chain)
    }

    /// Makes an image installed, on top of these. What had its name is replaced.
    ///
    /// # Errors
    /// When the files do not fit on top of each other, or the record cannot be written.
    pub fn commit(&self, record: &Record, parents: &[Record]) -> Result<(), ImageError> {
        let mut whole = parents.to_vec();
        whole.push(record.clone());
        self.tree(&whole)?;
        self.store.write_record(record)
    }

    /// Ends the installation, and removes what no image uses.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn finish(self) -> Result<(), ImageError> {
        self.store.collect_garbage()
    }
}
