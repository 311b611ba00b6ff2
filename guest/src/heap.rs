//! The heap of one call, in place of the allocator that the compiler brings along. An instance lives for a millisecond:
//! a freed block waits for the next request of its size, and blocks are never joined or given back.

#![expect(unsafe_code, reason = "blocks of memory are raw addresses")]

use std::alloc::Layout;
use std::ptr::{self, NonNull};

/// The alignment of all blocks, and the bytes of the smallest one.
const ALIGN: usize = 8;

/// The number of sizes: four for each power of two, up to the whole address space of WebAssembly.
const SIZES: usize = 112;

/// The bytes that a heap may lose at the ends of blocks. To move a block that shrinks takes longer.
const MOST_LOST: usize = 256 << 10;

/// The memory below a heap.
pub trait Memory {
    /// Returns the first address that the heap may use, and the address after the last one.
    fn bounds(&self) -> (usize, usize);

    /// Makes the memory reach to `wanted`, or farther. Returns its end, which is below `wanted` if there is no more memory.
    fn grow(&self, end: usize, wanted: usize) -> usize;
}

/// A heap, which takes its blocks from a memory.
pub struct Heap<M> {
    memory: M,
    /// The first free block of each size. A free block begins with the address of the next one.
    free: [Option<NonNull<u8>>; SIZES],
    /// The memory that was never a block; nothing before the first request.
    next: usize,
    end: usize,
    /// The bytes at the ends of blocks that shrank in their places, which are never used again.
    lost: usize,
}

/// Returns the number and the bytes of the smallest size that holds so many bytes: 8, 16, 24 … 64, 80, 96, 112, 128, 160 …
const fn block_size(bytes: usize) -> (usize, usize) {
    let last = bytes.saturating_sub(1);
    let shift = if last < 8 * ALIGN { 3 } else { last.ilog2() - 2 };
    let steps = last >> shift;
    ((shift as usize - 3) * 4 + steps, (steps + 1) << shift)
}

impl<M: Memory> Heap<M> {
    /// Makes a heap without blocks.
    pub const fn new(memory: M) -> Heap<M> {
        Heap { memory, free: [None; SIZES], next: 0, end: 0, lost: 0 }
    }

    /// Returns a block, or null if there is no more memory.
    pub fn allocate(&mut self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGN {
            // Types with a larger alignment are rare: their blocks are not used again.
            let start = self.fresh(block_size(layout.size() + layout.align()).1);
            return if start.is_null() { start } else { start.map_addr(|at| at.next_multiple_of(layout.align())) };
        }
        let (size, bytes) = block_size(layout.size());
        let Some(block) = self.free[size] else { return self.fresh(bytes) };
        // SAFETY: a free block is aligned, and begins with the next one.
        self.free[size] = unsafe { block.cast().read() };
        block.as_ptr()
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// The block must be of this heap, with this layout, and nobody may use it any more.
    pub unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block).filter(|_| layout.align() <= ALIGN) else { return };
        let (size, _) = block_size(layout.size());
        // SAFETY: the block is aligned, and large enough for an address.
        unsafe { block.cast().write(self.free[size]) };
        self.free[size] = Some(block);
    }

    /// Returns a block of another size with the same content. The last block keeps its place, and so does a block that
    /// shrinks, while not too much is lost.
    ///
    /// # Safety
    ///
    /// As for [`Heap::free`]. If the result is null, the block is unchanged.
    pub unsafe fn resize(&mut self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let ((_, before), (_, after)) = (block_size(layout.size()), block_size(bytes));
        let is_last = block.addr() + before == self.next;
        let stays = if is_last { self.reach(block.addr() + after) } else { self.shrinks_in_place(before, after) };
        if stays && layout.align() <= ALIGN {
            return block;
        }
        let Ok(wanted) = Layout::from_size_align(bytes, layout.align()) else { return ptr::null_mut() };
        let other = self.allocate(wanted);
        if !other.is_null() {
            // SAFETY: each block has its bytes, and no two blocks have one in common.
            unsafe {
                ptr::copy_nonoverlapping(block, other, layout.size().min(bytes));
                self.free(block, layout);
            }
        }
        other
    }

    fn shrinks_in_place(&mut self, before: usize, after: usize) -> bool {
        let lost = before.checked_sub(after).map(|lost| self.lost + lost).filter(|lost| *lost <= MOST_LOST);
        self.lost = lost.unwrap_or(self.lost);
        lost.is_some()
    }

    /// Returns a block that was none before.
    fn fresh(&mut self, bytes: usize) -> *mut u8 {
        if self.end == 0 {
            let (start, end) = self.memory.bounds();
            (self.next, self.end) = (start.next_multiple_of(ALIGN), end);
        }
        let start = self.next;
        let is_there = start.checked_add(bytes).is_some_and(|end| self.reach(end));
        if is_there { ptr::with_exposed_provenance_mut(start) } else { ptr::null_mut() }
    }

    /// Moves the start of the memory that was never a block, if there is so much memory.
    fn reach(&mut self, next: usize) -> bool {
        if next > self.end {
            self.end = self.memory.grow(self.end, next);
        }
        let is_there = next <= self.end;
        if is_there {
            self.next = next;
        }
        is_there
    }
}

/// The heap of the component.
#[cfg(target_arch = "wasm32")]
mod component {
    use std::alloc::GlobalAlloc;
    use std::arch::wasm32::{memory_grow, memory_size};
    use std::cell::UnsafeCell;

    use super::{Heap, Layout, Memory};

    const PAGE: usize = 64 << 10;

    /// The pages by which the memory grows: each time costs a call of the system.
    const STEP: usize = 16;

    struct LinearMemory;

    impl Memory for LinearMemory {
        fn bounds(&self) -> (usize, usize) {
            unsafe extern "C" {
                /// The linker's end of the stack and the constants.
                static __heap_base: u8;
            }
            ((&raw const __heap_base).addr(), memory_size::<0>() * PAGE)
        }

        fn grow(&self, end: usize, wanted: usize) -> usize {
            let needed = (wanted - end).div_ceil(PAGE);
            // The limit of a call may be nearer than a whole step.
            let grown = [needed.max(STEP), needed].into_iter().find(|pages| memory_grow::<0>(*pages) != usize::MAX);
            end + grown.unwrap_or_default() * PAGE
        }
    }

    struct Global(UnsafeCell<Heap<LinearMemory>>);

    // SAFETY: a component has one thread.
    unsafe impl Sync for Global {}

    #[global_allocator]
    static GLOBAL: Global = Global(UnsafeCell::new(Heap::new(LinearMemory)));

    // SAFETY: there is one thread, the heap calls nobody who allocates, and it gives no byte to two blocks.
    unsafe impl GlobalAlloc for Global {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            unsafe { (*self.0.get()).allocate(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            unsafe { (*self.0.get()).free(block, layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
            unsafe { (*self.0.get()).resize(block, layout, bytes) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Memory of a vector that grows in steps, up to its end.
    struct Steps<'a> {
        start: *mut u8,
        bytes: usize,
        grown: &'a Cell<usize>,
    }

    impl Memory for Steps<'_> {
        fn bounds(&self) -> (usize, usize) {
            (self.start.expose_provenance() + 3, self.start.addr() + 64)
        }

        fn grow(&self, end: usize, wanted: usize) -> usize {
            self.grown.set(self.grown.get() + 1);
            if wanted <= self.start.addr() + self.bytes { wanted } else { end }
        }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGN).unwrap()
    }

    #[test]
    fn a_size_holds_its_bytes_and_wastes_at_most_a_quarter() {
        for bytes in (1..5_000).chain([1 << 20, (1 << 20) + 1, (1 << 31) - 1]) {
            let (size, held) = block_size(bytes);
            assert!(held >= bytes && held % ALIGN == 0 && size < SIZES, "{bytes}: {held}");
            assert!(held < bytes + ALIGN || held * 4 <= bytes * 5 + 4, "{bytes}: {held}");
            assert_eq!(block_size(held), (size, held), "a block of {held} bytes goes back to its own size");
            assert!(block_size(held + 1).0 > size);
        }
    }

    #[test]
    fn blocks_keep_their_bytes_and_share_none() {
        let (mut memory, grown) = (vec![0_u8; 4 << 20], Cell::new(0));
        let mut heap = Heap::new(Steps { start: memory.as_mut_ptr(), bytes: memory.len(), grown: &grown });
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let is_whole = |block: *mut u8, bytes: usize, mark: u8| {
            // SAFETY: the heap gave this block out, and it was filled.
            unsafe { std::slice::from_raw_parts(block, bytes) }.iter().all(|byte| *byte == mark)
        };
        for turn in 0..40_000_u64 {
            let (mark, bytes) = (turn as u8, 1 + (random(40) * random(40)) as usize);
            let place = random(100) as usize;
            let (block, layout) = match blocks.get(place).copied() {
                None => {
                    let align = if random(50) == 0 { 64 } else { 1 << random(4) };
                    let layout = Layout::from_size_align(bytes, align).unwrap();
                    (heap.allocate(layout), layout)
                }
                Some((block, before, old)) => {
                    blocks.swap_remove(place);
                    assert!(is_whole(block, before.size(), old), "turn {turn}");
                    if random(2) == 0 {
                        // SAFETY: the block left the list.
                        unsafe { heap.free(block, before) };
                        continue;
                    }
                    // SAFETY: the block left the list.
                    let block = unsafe { heap.resize(block, before, bytes) };
                    assert!(is_whole(block, bytes.min(before.size()), old), "turn {turn}");
                    (block, Layout::from_size_align(bytes, before.align()).unwrap())
                }
            };
            assert!(!block.is_null() && block.addr() % layout.align() == 0);
            // SAFETY: the heap gave the block out with this layout.
            unsafe { block.write_bytes(mark, layout.size()) };
            blocks.push((block, layout, mark));
        }
        assert!(blocks.iter().all(|(block, layout, mark)| is_whole(*block, layout.size(), *mark)));
        assert!(grown.get() > 0);
        assert!(heap.lost > MOST_LOST / 2 && heap.lost <= MOST_LOST, "{}", heap.lost);
    }

    #[test]
    fn a_freed_block_is_used_again_and_the_last_one_grows_in_its_place() {
        let (mut memory, grown) = (vec![0_u8; 1_000], Cell::new(0));
        let mut heap = Heap::new(Steps { start: memory.as_mut_ptr(), bytes: memory.len(), grown: &grown });
        let (first, second) = (heap.allocate(layout(24)), heap.allocate(layout(24)));
        // SAFETY: each block is used as the heap gave it out.
        unsafe {
            assert_eq!(heap.resize(second, layout(24), 500), second);
            assert_eq!(heap.resize(second, layout(500), 20), second);
            assert_ne!(heap.resize(first, layout(24), 100), first);
            assert_eq!(heap.allocate(layout(17)), first);
            assert_eq!(heap.resize(first, layout(17), 2_000), ptr::null_mut());
        }
        assert_eq!(heap.allocate(layout(2_000)), ptr::null_mut());
        assert_ne!(heap.allocate(layout(100)), ptr::null_mut(), "a request that failed takes nothing");
    }
}
