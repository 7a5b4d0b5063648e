//! The chunks of a file by their numbers: a persistent map that knows its sums.
//!
//! A radix tree of 64 children a node. Clones share their nodes, so a frozen version costs nothing and two versions are
//! compared by what they do not share. What an ordered map of a crate cannot do, and a file needs in less time than the
//! number of its chunks: to tell the sums, to cut the end off, and to put zeros into a long hole (all equal subtrees of
//! zeros are one).

use std::cmp::Ordering;
use std::sync::Arc;

use super::file_data::{CHUNK, Chunk, MAX_FILE_SIZE};
use super::leaving::{SMALL, discard_chunks};

/// Bits of a chunk's number that one level looks at.
const BITS: u32 = 6;
/// Children of a node.
const FANOUT: u32 = 1 << BITS;
/// Numbers are below this.
pub(super) const MAX_CHUNKS: u32 = (MAX_FILE_SIZE / CHUNK) as u32;

/// A map from numbers to chunks.
#[derive(Clone, Default)]
pub(super) struct ChunkMap {
    root: Option<Arc<Node>>,
    /// Levels below the root.
    height: u32,
}

#[derive(Clone, Debug)]
struct Node {
    sums: Sums,
    /// A bit for each child there is.
    present: u64,
    children: Children,
}

/// Those that are present, in order.
#[derive(Clone, Debug)]
enum Children {
    Chunks(Vec<Chunk>),
    Nodes(Vec<Arc<Node>>),
}

/// Sums over chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// How many there are.
    pub(super) chunks: u64,
    /// Bytes charged for them, to whatever layer.
    pub(super) charge: u64,
    /// The newest layer one of them belongs to. Layers are numbered in the order of their making, and chunks are added by
    /// the newest only.
    layer: u64,
    /// Bytes charged to that layer.
    own: u64,
}

impl Sums {
    fn of(chunk: &Chunk) -> Self {
        let charge = chunk.charge();
        Self {
            chunks: 1,
            charge,
            layer: chunk.layer,
            own: charge,
        }
    }

    /// Bytes charged to `layer`, which is the newest or one that came after.
    pub(super) fn charged_to(&self, layer: u64) -> u64 {
        if self.layer == layer { self.own } else { 0 }
    }

    fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.charge += other.charge;
        match other.layer.cmp(&self.layer) {
            Ordering::Greater => (self.layer, self.own) = (other.layer, other.own),
            Ordering::Equal => self.own += other.own,
            Ordering::Less => {}
        }
    }

    /// Replaces a part of what was added up.
    fn replace(&mut self, before: Self, after: Self) {
        self.chunks -= before.chunks;
        self.charge -= before.charge;
        self.own -= before.charged_to(self.layer);
        self.add(after);
    }
}

/// The place of a child among those that are present.
fn position(present: u64, slot: u32) -> usize {
    (present & ((1 << slot) - 1)).count_ones() as usize
}

/// Which child of a node at `height` leads to chunk `index`.
fn slot_of(index: u32, height: u32) -> u32 {
    (index >> (BITS * height)) & (FANOUT - 1)
}

/// How many chunks a child of a node at `height` can hold.
fn span(height: u32) -> u64 {
    1 << (BITS * height)
}

impl Node {
    fn empty(height: u32) -> Self {
        let children = if height == 0 {
            Children::Chunks(Vec::new())
        } else {
            Children::Nodes(Vec::new())
        };
        Self {
            sums: Sums::default(),
            present: 0,
            children,
        }
    }

    fn has(&self, slot: u32) -> bool {
        self.present & (1 << slot) != 0
    }

    fn child(&self, slot: u32) -> Option<&Arc<Self>> {
        match &self.children {
            Children::Nodes(nodes) if self.has(slot) => nodes.get(position(self.present, slot)),
            _ => None,
        }
    }

    fn chunk(&self, slot: u32) -> Option<&Chunk> {
        match &self.children {
            Children::Chunks(chunks) if self.has(slot) => chunks.get(position(self.present, slot)),
            _ => None,
        }
    }

    /// Puts a child at a free slot of an inner node.
    fn put_child(&mut self, slot: u32, child: Arc<Self>) {
        let at = position(self.present, slot);
        if let Children::Nodes(nodes) = &mut self.children {
            self.sums.add(child.sums);
            nodes.insert(at, child);
            self.present |= 1 << slot;
        }
    }

    /// Lets `change` change a child of an inner node. It goes when nothing is left in it.
    fn change_child<T>(&mut self, slot: u32, change: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let at = position(self.present, slot);
        let Children::Nodes(nodes) = &mut self.children else {
            return None;
        };
        let child = Arc::make_mut(nodes.get_mut(at)?);
        let before = child.sums;
        let result = change(child);
        let after = child.sums;
        self.sums.replace(before, after);
        if child.present == 0 {
            nodes.remove(at);
            self.present &= !(1 << slot);
        }
        Some(result)
    }

    fn insert(&mut self, height: u32, index: u32, chunk: Chunk) -> Option<Chunk> {
        let slot = slot_of(index, height);
        if height > 0 {
            if !self.has(slot) {
                self.put_child(slot, Arc::new(Self::empty(height - 1)));
            }
            return self.change_child(slot, |child| child.insert(height - 1, index, chunk))?;
        }
        let (at, is_there) = (position(self.present, slot), self.has(slot));
        let Children::Chunks(chunks) = &mut self.children else {
            return None;
        };
        let after = Sums::of(&chunk);
        if is_there {
            let before = std::mem::replace(chunks.get_mut(at)?, chunk);
            self.sums.replace(Sums::of(&before), after);
            return Some(before);
        }
        chunks.insert(at, chunk);
        self.present |= 1 << slot;
        self.sums.add(after);
        None
    }

    fn remove(&mut self, height: u32, index: u32) -> Option<Chunk> {
        let slot = slot_of(index, height);
        if !self.has(slot) {
            return None;
        }
        if height > 0 {
            return self.change_child(slot, |child| child.remove(height - 1, index))?;
        }
        let Children::Chunks(chunks) = &mut self.children else {
            return None;
        };
        let chunk = chunks.remove(position(self.present, slot));
        self.present &= !(1 << slot);
        self.sums.replace(Sums::of(&chunk), Sums::default());
        Some(chunk)
    }

    fn update<T>(&mut self, height: u32, index: u32, change: impl FnOnce(&mut Chunk) -> T) -> Option<T> {
        let slot = slot_of(index, height);
        if !self.has(slot) {
            return None;
        }
        if height > 0 {
            return self.change_child(slot, |child| child.update(height - 1, index, change))?;
        }
        let at = position(self.present, slot);
        let Children::Chunks(chunks) = &mut self.children else {
            return None;
        };
        let chunk = chunks.get_mut(at)?;
        let before = Sums::of(chunk);
        let result = change(chunk);
        let after = Sums::of(chunk);
        self.sums.replace(before, after);
        Some(result)
    }

    /// Removes what is at `index` and after it inside this node.
    fn cut(&mut self, height: u32, index: u32, removed: &mut Vec<Arc<Self>>) {
        let slot = slot_of(index, height);
        let at = position(self.present, slot);
        let below = (1u64 << slot) - 1;
        match &mut self.children {
            Children::Chunks(chunks) => {
                let mut end = Self::empty(0);
                end.children = Children::Chunks(chunks.split_off(at));
                end.present = self.present & !below;
                end.add_up();
                removed.push(Arc::new(end));
            }
            Children::Nodes(nodes) => {
                let here = self.present & (1 << slot) != 0;
                removed.extend(nodes.drain(at + usize::from(here)..));
                self.present &= below | (1 << slot);
                if here {
                    self.change_child(slot, |child| child.cut(height - 1, index, removed));
                }
                self.add_up();
                return;
            }
        }
        self.present &= below;
        self.add_up();
    }

    /// Adds up the children.
    fn add_up(&mut self) {
        let mut sums = Sums::default();
        match &self.children {
            Children::Chunks(chunks) => chunks.iter().for_each(|chunk| sums.add(Sums::of(chunk))),
            Children::Nodes(nodes) => nodes.iter().for_each(|node| sums.add(node.sums)),
        }
        self.sums = sums;
    }

    /// Sums over the chunks before `index`.
    fn sums_before(&self, height: u32, index: u32, sums: &mut Sums) {
        let slot = slot_of(index, height);
        let at = position(self.present, slot);
        match &self.children {
            Children::Chunks(chunks) => chunks[..at].iter().for_each(|chunk| sums.add(Sums::of(chunk))),
            Children::Nodes(nodes) => {
                nodes[..at].iter().for_each(|node| sums.add(node.sums));
                if let Some(child) = self.child(slot) {
                    child.sums_before(height - 1, index, sums);
                }
            }
        }
    }

    /// Puts a whole node of `level` where nothing is.
    fn put_node(&mut self, height: u32, index: u32, level: u32, node: Arc<Self>) {
        let slot = slot_of(index, height);
        if height == level + 1 {
            self.put_child(slot, node);
            return;
        }
        if !self.has(slot) {
            self.put_child(slot, Arc::new(Self::empty(height - 1)));
        }
        self.change_child(slot, |child| child.put_node(height - 1, index, level, node));
    }
}

/// However a version of a file goes, nobody waits until all its chunks are free.
impl Drop for ChunkMap {
    fn drop(&mut self) {
        if let Some(root) = self.root.take()
            && root.sums.chunks > SMALL
            && let Some(root) = Arc::into_inner(root)
        {
            discard_chunks(Removed {
                nodes: vec![Arc::new(root)],
            });
        }
    }
}

impl ChunkMap {
    /// Sums over all chunks.
    pub(super) fn sums(&self) -> Sums {
        self.root.as_ref().map_or_else(Sums::default, |root| root.sums)
    }

    /// Sums over the chunks below `index`.
    pub(super) fn sums_before(&self, index: u32) -> Sums {
        let mut sums = Sums::default();
        match &self.root {
            Some(root) if u64::from(index) < span(self.height + 1) => root.sums_before(self.height, index, &mut sums),
            _ => sums = self.sums(),
        }
        sums
    }

    /// Whether both are the same version.
    pub(super) fn ptr_eq(&self, other: &Self) -> bool {
        match (&self.root, &other.root) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&Chunk> {
        if u64::from(index) >= span(self.height + 1) {
            return None;
        }
        let mut node = self.root.as_deref()?;
        for height in (1..=self.height).rev() {
            node = node.child(slot_of(index, height))?;
        }
        node.chunk(slot_of(index, 0))
    }

    /// Makes the tree as high as chunk `index` needs.
    fn grow_for(&mut self, index: u32) {
        while u64::from(index) >= span(self.height + 1) {
            self.height += 1;
            if let Some(root) = self.root.take() {
                let mut above = Node::empty(self.height);
                above.put_child(0, root);
                self.root = Some(Arc::new(above));
            }
        }
    }

    /// Forgets a root under which nothing is left.
    fn tidy(&mut self) {
        if self.root.as_ref().is_some_and(|root| root.present == 0) {
            *self = Self::default();
        }
    }

    pub(super) fn insert(&mut self, index: u32, chunk: Chunk) -> Option<Chunk> {
        self.grow_for(index);
        let height = self.height;
        let root = self.root.get_or_insert_with(|| Arc::new(Node::empty(height)));
        Arc::make_mut(root).insert(height, index, chunk)
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Chunk> {
        self.get(index)?;
        let removed = Arc::make_mut(self.root.as_mut()?).remove(self.height, index);
        self.tidy();
        removed
    }

    /// Lets `change` change chunk `index`. `None` if there is none.
    pub(super) fn update<T>(&mut self, index: u32, change: impl FnOnce(&mut Chunk) -> T) -> Option<T> {
        self.get(index)?;
        Arc::make_mut(self.root.as_mut()?).update(self.height, index, change)
    }

    /// Removes chunk `index` and all after it, and returns them. The time does not depend on their number.
    pub(super) fn cut(&mut self, index: u32) -> Removed {
        let mut removed = Removed::default();
        if index == 0 {
            removed.nodes.extend(self.root.take());
            self.height = 0;
        } else if u64::from(index) < span(self.height + 1)
            && let Some(root) = &mut self.root
        {
            Arc::make_mut(root).cut(self.height, index, &mut removed.nodes);
            self.tidy();
        }
        removed
    }

    /// The chunks from `index` on, in order.
    pub(super) fn iter_from(&self, index: u32) -> Iter<'_> {
        let mut iter = Iter {
            stack: Vec::new(),
            index: 0,
            from: index,
        };
        if let Some(root) = &self.root {
            iter.stack.push((root, self.height, 0));
        }
        iter
    }

    /// All chunks, in order.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// Makes all chunks of `from..to` charged to `layer` as whole ones, with zeros where there was nothing, in the order of
    /// their numbers. Looks at no more than `budget` chunks one by one, and returns the number of the first that was not
    /// reached.
    pub(super) fn reserve(&mut self, layer: u64, from: u32, to: u32, mut budget: usize) -> u32 {
        let mut index = from;
        if to > from {
            self.grow_for(to - 1);
        }
        while index < to && budget > 0 {
            budget -= 1;
            // The largest node that begins here, is inside the range and is vacant or done already.
            let fits = (0..self.height).rev().find(|&level| {
                let size = span(level + 1);
                u64::from(index).is_multiple_of(size)
                    && u64::from(index) + size <= u64::from(to)
                    && self
                        .node_at(index, level)
                        .is_none_or(|node| node.sums.charged_to(layer) == size * CHUNK)
            });
            if let Some(level) = fits {
                if self.node_at(index, level).is_none() {
                    let height = self.height;
                    let root = self.root.get_or_insert_with(|| Arc::new(Node::empty(height)));
                    Arc::make_mut(root).put_node(height, index, level, zeros(layer, level));
                }
                index += span(level + 1) as u32;
            } else {
                self.reserve_chunk(layer, index, CHUNK as u32);
                index += 1;
            }
        }
        self.tidy();
        index
    }

    /// Makes a chunk charged to `layer` as if it had at least `len` bytes.
    pub(super) fn reserve_chunk(&mut self, layer: u64, index: u32, len: u32) {
        let reserved = self.update(index, |chunk| chunk.reserve(layer, len));
        if reserved.is_none() {
            self.insert(index, Chunk::zeros(layer, len));
        }
    }

    /// The node at `level` that chunk `index` is in.
    fn node_at(&self, index: u32, level: u32) -> Option<&Arc<Node>> {
        let mut node = self.root.as_ref()?;
        for height in (level + 1..=self.height).rev() {
            node = node.child(slot_of(index, height))?;
        }
        Some(node)
    }

    /// Tells of each chunk that is not the same in `self` and `new`: its number, and what it is in both.
    pub(super) fn diff<E>(
        &self,
        new: &Self,
        tell: &mut impl FnMut(u32, Option<&Chunk>, Option<&Chunk>) -> Result<(), E>,
    ) -> Result<(), E> {
        let height = self.height.max(new.height);
        let (old, new) = (self.lifted(height), new.lifted(height));
        diff(old.as_ref(), new.as_ref(), height, 0, tell)
    }

    /// The root as it would be were the tree this high.
    fn lifted(&self, height: u32) -> Option<Arc<Node>> {
        let mut root = self.root.clone()?;
        for height in self.height + 1..=height {
            let mut above = Node::empty(height);
            above.put_child(0, root);
            root = Arc::new(above);
        }
        Some(root)
    }
}

/// A node of `level` full of zeros that are charged to `layer`.
fn zeros(layer: u64, level: u32) -> Arc<Node> {
    let mut node = Node {
        sums: Sums::default(),
        present: u64::MAX,
        children: Children::Chunks(vec![Chunk::zeros(layer, CHUNK as u32); FANOUT as usize]),
    };
    node.add_up();
    let mut node = Arc::new(node);
    for _ in 0..level {
        let mut above = Node {
            sums: Sums::default(),
            present: u64::MAX,
            children: Children::Nodes(vec![node; FANOUT as usize]),
        };
        above.add_up();
        node = Arc::new(above);
    }
    node
}

/// No deeper than the tree is high, which is at most four.
fn diff<E>(
    old: Option<&Arc<Node>>,
    new: Option<&Arc<Node>>,
    height: u32,
    first: u32,
    tell: &mut impl FnMut(u32, Option<&Chunk>, Option<&Chunk>) -> Result<(), E>,
) -> Result<(), E> {
    if let (Some(old), Some(new)) = (old, new)
        && Arc::ptr_eq(old, new)
    {
        return Ok(());
    }
    let present = |node: Option<&Arc<Node>>| node.map_or(0, |node| node.present);
    let mut either = present(old) | present(new);
    while either != 0 {
        let slot = either.trailing_zeros();
        either &= either - 1;
        let index = first + (slot << (BITS * height));
        if height > 0 {
            let child = |node: Option<&'_ Arc<Node>>| node.and_then(|node| node.child(slot)).cloned();
            let (old, new) = (child(old), child(new));
            diff(old.as_ref(), new.as_ref(), height - 1, index, tell)?;
            continue;
        }
        let old = old.and_then(|node| node.chunk(slot));
        let new = new.and_then(|node| node.chunk(slot));
        if old != new {
            tell(index, old, new)?;
        }
    }
    Ok(())
}

/// See [`ChunkMap::iter_from`].
pub(super) struct Iter<'a> {
    /// The nodes on the way, each with its height and the next slot.
    stack: Vec<(&'a Node, u32, u32)>,
    /// The number of the chunk the stack has come to.
    index: u32,
    from: u32,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (u32, &'a Chunk);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (node, height, next) = self.stack.last_mut()?;
            let (node, height) = (*node, *height);
            let rest = if *next == FANOUT {
                0
            } else {
                node.present >> *next << *next
            };
            if rest == 0 {
                self.stack.pop();
                continue;
            }
            let slot = rest.trailing_zeros();
            *next = slot + 1;
            let below = u64::from(self.index) & !(span(height + 1) - 1);
            let first = below + (u64::from(slot) << (BITS * height));
            if first + span(height) <= u64::from(self.from) {
                continue;
            }
            self.index = first as u32;
            match &node.children {
                Children::Chunks(chunks) => {
                    return chunks
                        .get(position(node.present, slot))
                        .map(|chunk| (self.index, chunk));
                }
                Children::Nodes(nodes) => self
                    .stack
                    .push((nodes.get(position(node.present, slot))?, height - 1, 0)),
            }
        }
    }
}

/// Chunks that are part of no file any more, on their way out of memory.
#[derive(Default, Debug)]
pub(super) struct Removed {
    nodes: Vec<Arc<Node>>,
}

impl Removed {
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.nodes.iter().for_each(|node| sums.add(node.sums));
        sums
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Lets go of some of them: a leaf at a time, until at least `count` chunks are gone. What others share counts as gone.
    /// Returns their sums.
    pub(super) fn drop_some(&mut self, count: usize) -> Sums {
        let mut sums = Sums::default();
        while sums.chunks < count as u64
            && let Some(node) = self.nodes.pop()
        {
            let whole = node.sums;
            match Arc::into_inner(node) {
                Some(Node {
                    children: Children::Nodes(nodes),
                    ..
                }) => self.nodes.extend(nodes),
                // A leaf goes here; of a shared node only the reference.
                Some(_) | None => sums.add(whole),
            }
        }
        sums
    }
}

impl From<ChunkMap> for Removed {
    fn from(mut map: ChunkMap) -> Self {
        Self {
            nodes: Vec::from_iter(map.root.take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::file_data::ChunkData;

    #[derive(Debug, Clone)]
    enum Op {
        Insert(u32, u16),
        Remove(u32),
        Update(u32, u16),
        Cut(u32),
        Reserve(u32, u32, usize),
        /// Goes on in a newer layer, with a copy kept.
        Layer,
    }

    fn op() -> impl Strategy<Value = Op> {
        let index = || prop_oneof![0..200u32, 4000..4200u32, MAX_CHUNKS - 70..MAX_CHUNKS];
        let range = (index(), prop_oneof![0..200u32, 4000..9000u32], 1..200usize);
        prop_oneof![
            4 => (index(), any::<u16>()).prop_map(|(index, len)| Op::Insert(index, len)),
            2 => index().prop_map(Op::Remove),
            2 => (index(), any::<u16>()).prop_map(|(index, len)| Op::Update(index, len)),
            1 => index().prop_map(Op::Cut),
            2 => range.prop_map(|(from, len, budget)| Op::Reserve(from, (from + len).min(MAX_CHUNKS), budget)),
            1 => Just(Op::Layer),
        ]
    }

    fn chunk(layer: u64, len: u16) -> Chunk {
        Chunk {
            layer,
            reserved: 0,
            data: ChunkData::Memory(Arc::new(vec![1; usize::from(len)])),
        }
    }

    fn compare(map: &ChunkMap, model: &BTreeMap<u32, Chunk>, layer: u64) {
        assert!(map.iter().eq(model.iter().map(|(index, chunk)| (*index, chunk))));
        let own = model.values().filter(|chunk| chunk.layer == layer);
        assert_eq!(map.sums().chunks, model.len() as u64);
        assert_eq!(map.sums().charge, model.values().map(Chunk::charge).sum::<u64>());
        assert_eq!(map.sums().charged_to(layer), own.map(Chunk::charge).sum::<u64>());
        for index in [0, 1, 64, 100, 4100, MAX_CHUNKS - 5] {
            assert!(map.get(index) == model.get(&index));
            assert_eq!(map.sums_before(index).chunks, model.range(..index).count() as u64);
            let own = model.range(..index).filter(|(_, chunk)| chunk.layer == layer);
            let charge: u64 = own.map(|(_, chunk)| chunk.charge()).sum();
            assert_eq!(map.sums_before(index).charged_to(layer), charge);
            assert_eq!(map.iter_from(index).count(), model.range(index..).count());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn it_is_an_ordered_map_with_sums(ops in proptest::collection::vec(op(), 1..60)) {
            let (mut map, mut model, mut layer) = (ChunkMap::default(), BTreeMap::new(), 1);
            let mut before = (map.clone(), model.clone(), layer);
            for op in ops {
                match op {
                    Op::Insert(index, len) => {
                        let chunk = chunk(layer, len);
                        prop_assert!(map.insert(index, chunk.clone()) == model.insert(index, chunk));
                    }
                    Op::Remove(index) => prop_assert!(map.remove(index) == model.remove(&index)),
                    Op::Update(index, len) => {
                        let new = chunk(layer, len);
                        let changed = map.update(index, |chunk| *chunk = new.clone());
                        prop_assert_eq!(changed.is_some(), model.contains_key(&index));
                        model.entry(index).and_modify(|chunk| *chunk = new);
                    }
                    Op::Cut(index) => {
                        let mut removed = map.cut(index);
                        let gone = model.split_off(&index);
                        prop_assert_eq!(removed.sums().chunks, gone.len() as u64);
                        let mut dropped = 0;
                        while !removed.is_empty() {
                            dropped += removed.drop_some(10).chunks;
                        }
                        prop_assert_eq!(dropped, gone.len() as u64);
                    }
                    Op::Reserve(from, to, budget) => {
                        let end = map.reserve(layer, from, to, budget);
                        prop_assert!(end <= to.max(from) && (end > from || to <= from));
                        for index in from..end {
                            let now = map.get(index).unwrap();
                            prop_assert_eq!(now.charge(), CHUNK);
                            let chunk = model.entry(index).or_insert_with(|| now.clone());
                            // A chunk whose bytes take all its blocks is charged whole without a reservation. Whether it
                            // gets one depends on its neighbours: a node that is charged whole is skipped.
                            let whole = chunk.layer == layer && chunk.charge() == CHUNK;
                            if !whole || now.reserved != chunk.reserved {
                                chunk.reserve(layer, CHUNK as u32);
                            }
                        }
                    }
                    Op::Layer => {
                        before = (map.clone(), model.clone(), layer);
                        layer += 1;
                    }
                }
                compare(&map, &model, layer);
            }
            compare(&before.0, &before.1, before.2);
            let mut told = BTreeMap::new();
            let _ = before.0.diff(&map, &mut |index, old, new| {
                told.insert(index, (old.cloned(), new.cloned()));
                Ok::<_, ()>(())
            });
            for index in before.1.keys().chain(model.keys()) {
                let (old, new) = (before.1.get(index), model.get(index));
                let expected = (old != new).then(|| (old.cloned(), new.cloned()));
                prop_assert!(told.get(index).cloned() == expected);
            }
        }
    }

    #[test]
    fn a_long_hole_is_filled_with_zeros_that_take_no_memory() {
        let mut map = ChunkMap::default();
        assert_eq!(map.reserve(7, 0, MAX_CHUNKS, 512), MAX_CHUNKS);
        assert_eq!(map.sums().charged_to(7), MAX_FILE_SIZE);
        let copy = map.clone();
        assert_eq!(map.cut(1).sums().chunks, u64::from(MAX_CHUNKS) - 1);
        assert_eq!(copy.sums().chunks, u64::from(MAX_CHUNKS));
    }
}
