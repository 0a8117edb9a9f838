//! The heap of one stripe: blocks of bytes, named by 32-bit handles.
//!
//! A cache holds millions of small things that differ in size by a few bytes, and general allocators are coarse
//! just there: between 128 and 160 bytes most have no class at all, so a 132-byte entry costs 160. And a pointer is
//! eight bytes in the table where four will do. So a stripe keeps its own pages:
//!
//! - A *page* is 16 KiB and holds blocks of one size class. Classes step by 8 bytes up to 512, by 16 up to 1 KiB and
//!   by 32 up to 2 KiB: what rounding wastes stays under 4 bytes on average where most entries lie, and at most 1/32.
//! - A *handle* is page number and offset in 8-byte units, 31 bits: 16 GiB of small blocks per stripe. The top
//!   bit marks a *large* block, which is a `Vec` of the general allocator; there the waste is small beside the size,
//!   and the vector can grow in place.
//! - A page whose last block is freed goes back to the allocator, so a change of the sizes in use does not
//!   leave memory tied to the old ones for good. Pages that stay half empty are the price; see `idle_bytes`.
//!
//! Handles instead of pointers also keep all of this in safe Rust: a stale handle reads wrong bytes of the same
//! heap, never foreign memory, and whoever holds the only table entry to a block owns it.

use std::hint::black_box;

/// Size of a page, in bytes.
const PAGE: usize = 16 * 1024;
/// Unit of block sizes and offsets, in bytes.
const UNIT: usize = 8;
/// The greatest block that lives in a page, in bytes. Beyond, rounding to the end of a page would cost more than
/// a general allocator does.
pub(super) const SMALL_MAX: usize = 2 * 1024;
/// Bits of a handle that count units within a page.
const OFFSET_BITS: u32 = (PAGE / UNIT).trailing_zeros();
/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// Where the cache lines of a block start, beyond the first, that are worth asking for at once; the rest comes by the
/// processor's own reading ahead.
const FETCHED_LINES: [usize; 3] = [CACHE_LINE, 2 * CACHE_LINE, 3 * CACHE_LINE];
/// Marks the handle of a large block.
const LARGE: u32 = 1 << 31;
/// Pages that a handle can name.
const PAGES_MAX: usize = 1 << (31 - OFFSET_BITS);
/// No block, in a page's chain of free blocks.
const NO_BLOCK: u16 = u16::MAX;
/// Where a class begins to step by the next width, and that width, in bytes.
const STEPS: [(usize, usize); 3] = [(512, 8), (1024, 16), (SMALL_MAX, 32)];
/// Number of size classes.
const CLASSES: usize = 512 / 8 + 512 / 16 + 1024 / 32;

/// Size of each class, in bytes.
const CLASS_SIZE: [u16; CLASSES] = class_sizes();

/// Names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(u32);

impl Handle {
    const fn small(page: usize, offset: usize) -> Self {
        Self((page as u32) << OFFSET_BITS | (offset / UNIT) as u32)
    }

    const fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    const fn page(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    const fn offset(self) -> usize {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as usize * UNIT
    }

    const fn large_index(self) -> usize {
        (self.0 & !LARGE) as usize
    }
}

/// The heap has run out of names for blocks: 16 GiB of small ones, or 2^31 large ones, in one stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stripe's heap is full")]
pub struct HeapFull;

#[derive(Debug)]
struct Page {
    bytes: Box<[u8; PAGE]>,
    class: u8,
    live: u16,
    /// Head of the chain of freed blocks, in units; the next one stands in the block's last two bytes of its first
    /// unit.
    free: u16,
    /// Blocks from here on, in bytes, were never used.
    fresh: u16,
    /// Where the page stands in its class's list of pages with room.
    position: u32,
}

/// Blocks of bytes; see the head of this file.
#[derive(Debug)]
pub(super) struct Heap {
    pages: Vec<Option<Page>>,
    /// Numbers of pages that were given back.
    vacant: Vec<u32>,
    /// Per class, the pages that have room.
    roomy: Vec<Vec<u32>>,
    large: Vec<Vec<u8>>,
    large_vacant: Vec<u32>,
    used: usize,
    held: usize,
}

impl Heap {
    pub(super) fn new() -> Self {
        Self {
            pages: Vec::new(),
            vacant: Vec::new(),
            roomy: vec![Vec::new(); CLASSES],
            large: Vec::new(),
            large_vacant: Vec::new(),
            used: 0,
            held: 0,
        }
    }

    /// Bytes in blocks that are in use, rounding included.
    pub(super) const fn used_bytes(&self) -> usize {
        self.used
    }

    /// Bytes held from the allocator beyond [`used_bytes`](Self::used_bytes): room in pages.
    pub(super) const fn idle_bytes(&self) -> usize {
        self.held - self.used
    }

    /// Sets aside a block of at least `size` bytes. Its content is arbitrary.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed.
    pub(super) fn allocate(&mut self, size: usize) -> Result<Handle, HeapFull> {
        if size > SMALL_MAX {
            return self.allocate_large(size);
        }
        let class = class_of(size);
        let block = usize::from(CLASS_SIZE[class]);
        let number = match self.roomy[class].last() {
            Some(&number) => number as usize,
            None => self.add_page(class)?,
        };
        let page = self.pages[number].as_mut().expect("a page with room is there");
        let offset = if page.free == NO_BLOCK {
            let offset = usize::from(page.fresh);
            page.fresh += block as u16;
            offset
        } else {
            let offset = usize::from(page.free) * UNIT;
            page.free = u16::from_le_bytes([page.bytes[offset + UNIT - 2], page.bytes[offset + UNIT - 1]]);
            offset
        };
        page.live += 1;
        if page.free == NO_BLOCK && usize::from(page.fresh) + block > PAGE {
            self.roomy[class].pop();
        }
        self.used += block;
        Ok(Handle::small(number, offset))
    }

    /// Takes a block back. Its first byte reads zero until it is used again.
    pub(super) fn release(&mut self, handle: Handle) {
        if handle.is_large() {
            let block = std::mem::take(&mut self.large[handle.large_index()]);
            self.used -= block.capacity();
            self.held -= block.capacity();
            self.large_vacant.push(handle.large_index() as u32);
            return;
        }
        let number = handle.page();
        let page = self.pages[number].as_mut().expect("a live handle names a page");
        let class = usize::from(page.class);
        let block = usize::from(CLASS_SIZE[class]);
        let was_full = page.free == NO_BLOCK && usize::from(page.fresh) + block > PAGE;
        let offset = handle.offset();
        page.bytes[offset] = 0;
        page.bytes[offset + UNIT - 2..offset + UNIT].copy_from_slice(&page.free.to_le_bytes());
        page.free = (offset / UNIT) as u16;
        page.live -= 1;
        self.used -= block;
        if was_full {
            page.position = self.roomy[class].len() as u32;
            self.roomy[class].push(number as u32);
        } else if page.live == 0 && self.roomy[class].len() > 1 {
            self.drop_page(number, class);
        }
    }

    /// The bytes of a block: at least as many as were asked for, what follows them is not the caller's.
    #[inline]
    pub(super) fn bytes(&self, handle: Handle) -> &[u8] {
        if handle.is_large() {
            &self.large[handle.large_index()]
        } else {
            let page = self.pages[handle.page()].as_ref().expect("a live handle names a page");
            &page.bytes[handle.offset()..]
        }
    }

    /// As [`bytes`](Self::bytes), and asks the processor for the later cache lines of a small block, whose first one is
    /// about to be read.
    ///
    /// How far an entry reaches stands in its header; whoever waits for that before touching the value waits for memory
    /// twice. These loads depend on nothing, and nothing waits for them. At 100,000 keys with values of 100 bytes they
    /// save an eighth of what a pipelined GET or SET takes in user space.
    #[inline]
    pub(super) fn fetch(&self, handle: Handle) -> &[u8] {
        if handle.is_large() {
            return &self.large[handle.large_index()];
        }
        let page = self.pages[handle.page()].as_ref().expect("a live handle names a page");
        let block = &page.bytes[handle.offset()..][..usize::from(CLASS_SIZE[usize::from(page.class)])];
        for start in FETCHED_LINES {
            if let Some(byte) = block.get(start) {
                black_box(*byte);
            }
        }
        block
    }

    /// The bytes of a block, to be written: what follows those that were asked for must not be touched.
    #[inline]
    pub(super) fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        if handle.is_large() {
            &mut self.large[handle.large_index()]
        } else {
            let page = self.pages[handle.page()].as_mut().expect("a live handle names a page");
            &mut page.bytes[handle.offset()..]
        }
    }

    /// Bytes that the block costs.
    pub(super) fn block_size(&self, handle: Handle) -> usize {
        if handle.is_large() {
            self.large[handle.large_index()].capacity()
        } else {
            let page = self.pages[handle.page()].as_ref().expect("a live handle names a page");
            usize::from(CLASS_SIZE[usize::from(page.class)])
        }
    }

    /// Whether `size` bytes would be given a block just like this one, so that it can be written anew in place.
    pub(super) fn fits(&self, handle: Handle, size: usize) -> bool {
        if handle.is_large() {
            let block = &self.large[handle.large_index()];
            size > SMALL_MAX && size <= block.capacity() && size >= block.capacity() / 2
        } else {
            let page = self.pages[handle.page()].as_ref().expect("a live handle names a page");
            size <= SMALL_MAX && class_of(size) == usize::from(page.class)
        }
    }

    /// Brings a large block to `size` bytes, keeping what it holds; grows by doubling, so that appending is cheap.
    /// Returns `false`, and does nothing, if the block is small or `size` no longer deserves a large one.
    pub(super) fn resize_large(&mut self, handle: Handle, size: usize) -> bool {
        if !handle.is_large() || size <= SMALL_MAX {
            return false;
        }
        let block = &mut self.large[handle.large_index()];
        let before = block.capacity();
        block.resize(size, 0);
        self.used = self.used - before + block.capacity();
        self.held = self.held - before + block.capacity();
        true
    }

    fn allocate_large(&mut self, size: usize) -> Result<Handle, HeapFull> {
        let block = vec![0; size];
        let bytes = block.capacity();
        let index = match self.large_vacant.pop() {
            Some(index) => {
                self.large[index as usize] = block;
                index
            }
            None if self.large.len() < LARGE as usize => {
                self.large.push(block);
                (self.large.len() - 1) as u32
            }
            None => return Err(HeapFull),
        };
        self.used += bytes;
        self.held += bytes;
        Ok(Handle(index | LARGE))
    }

    fn add_page(&mut self, class: usize) -> Result<usize, HeapFull> {
        let number = match self.vacant.pop() {
            Some(number) => number as usize,
            None if self.pages.len() < PAGES_MAX => {
                self.pages.push(None);
                self.pages.len() - 1
            }
            None => return Err(HeapFull),
        };
        let bytes = vec![0; PAGE].into_boxed_slice().try_into().expect("a page is as long as it was made");
        let position = self.roomy[class].len() as u32;
        self.pages[number] = Some(Page { bytes, class: class as u8, live: 0, free: NO_BLOCK, fresh: 0, position });
        self.roomy[class].push(number as u32);
        self.held += PAGE;
        Ok(number)
    }

    fn drop_page(&mut self, number: usize, class: usize) {
        let page = self.pages[number].take().expect("the page to drop is there");
        let position = page.position as usize;
        self.roomy[class].swap_remove(position);
        if let Some(&moved) = self.roomy[class].get(position) {
            self.pages[moved as usize].as_mut().expect("a page with room is there").position = position as u32;
        }
        self.vacant.push(number as u32);
        self.held -= PAGE;
    }
}

/// The class of the smallest blocks that hold `size` bytes, at most [`SMALL_MAX`].
const fn class_of(size: usize) -> usize {
    let (mut start, mut first, mut step) = (0, 0, 0);
    while step < STEPS.len() {
        let (end, width) = STEPS[step];
        if size <= end {
            return first + (if size > start { size - start - 1 } else { 0 }) / width;
        }
        first += (end - start) / width;
        start = end;
        step += 1;
    }
    CLASSES - 1
}

const fn class_sizes() -> [u16; CLASSES] {
    let mut sizes = [0; CLASSES];
    let (mut class, mut size, mut step) = (0, 0, 0);
    while class < CLASSES {
        if size >= STEPS[step].0 {
            step += 1;
        }
        size += STEPS[step].1;
        sizes[class] = size as u16;
        class += 1;
    }
    sizes
}

// A page's counters are 16 bits wide, and classes fit the byte that names them.
const _: () = assert!(PAGE < u16::MAX as usize && CLASSES <= u8::MAX as usize && CLASS_SIZE[CLASSES - 1] == 2048);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::{CLASS_SIZE, Heap, PAGE, SMALL_MAX, class_of};

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for size in 1..=SMALL_MAX {
            let class = class_of(size);
            assert!(usize::from(CLASS_SIZE[class]) >= size, "{size}");
            assert!(class == 0 || usize::from(CLASS_SIZE[class - 1]) < size, "{size}");
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Allocate(usize),
        Release(usize),
        Resize(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (8..700_usize).prop_map(Step::Allocate),
            1 => (8..9_000_usize).prop_map(Step::Allocate),
            3 => any::<usize>().prop_map(Step::Release),
            1 => (any::<usize>(), 1..20_000_usize).prop_map(|(pick, size)| Step::Resize(pick, size)),
        ]
    }

    proptest! {
        #[test]
        fn blocks_keep_what_was_written_and_memory_is_accounted_for(
            steps in proptest::collection::vec(steps(), 1..400),
        ) {
            let mut heap = Heap::new();
            let mut blocks = Vec::new();
            for (mark, step) in steps.into_iter().enumerate() {
                let mark = mark as u8;
                match step {
                    Step::Allocate(size) => {
                        let handle = heap.allocate(size).unwrap();
                        heap.bytes_mut(handle)[..size].fill(mark);
                        blocks.push((handle, size, mark));
                    }
                    Step::Release(pick) if !blocks.is_empty() => {
                        let (handle, ..) = blocks.swap_remove(pick % blocks.len());
                        heap.release(handle);
                    }
                    Step::Resize(pick, size) if !blocks.is_empty() => {
                        let pick = pick % blocks.len();
                        let (handle, old, mark) = blocks[pick];
                        if heap.resize_large(handle, size) {
                            heap.bytes_mut(handle)[old.min(size)..size].fill(mark);
                            blocks[pick].1 = size;
                        }
                    }
                    _ => {}
                }
                let by_handle: HashMap<_, _> = blocks.iter().map(|(handle, ..)| (handle.0, ())).collect();
                prop_assert_eq!(by_handle.len(), blocks.len());
                prop_assert_eq!(
                    heap.used_bytes(),
                    blocks.iter().map(|(handle, ..)| heap.block_size(*handle)).sum::<usize>()
                );
            }
            for (handle, size, mark) in &blocks {
                prop_assert!(heap.bytes(*handle)[..*size].iter().all(|byte| byte == mark));
            }
            for (handle, ..) in blocks {
                heap.release(handle);
            }
            prop_assert_eq!(heap.used_bytes(), 0);
        }
    }

    #[test]
    fn emptied_pages_go_back() {
        let mut heap = Heap::new();
        let handles: Vec<_> = (0..10_000).map(|_| heap.allocate(136).unwrap()).collect();
        assert!(heap.idle_bytes() < PAGE + heap.used_bytes() / 100);
        for handle in handles {
            heap.release(handle);
        }
        assert!(heap.idle_bytes() <= PAGE);
    }
}
