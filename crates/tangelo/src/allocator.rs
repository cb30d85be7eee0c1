//! The allocator: mimalloc, asked in the way that costs the least.
//!
//! The crate `mimalloc` asks for a given alignment each time. Any block of mimalloc is aligned for what Rust mostly asks for,
//! but where it is told an alignment it takes a larger block of most sizes beyond 1 KiB, in a slower way. Four of the
//! allocations of a proxied request were such.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as ffi;

/// `MI_MAX_ALIGN_SIZE`: blocks of at least this size have this alignment, smaller ones that of their own size.
const ALIGNED: usize = 16;

/// All memory of the process comes from here.
pub(crate) struct Allocator;

/// Whether every block of at least `size` bytes has the alignment.
const fn is_natural(align: usize, size: usize) -> bool {
    align <= ALIGNED && align <= size
}

// SAFETY: mimalloc returns blocks that are large enough, aligned (see `is_natural`; else it is asked for the alignment) and
// nobody else's, or null; any of its functions takes back what another of them gave.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and any power of two may be asked for.
        unsafe {
            if is_natural(layout.align(), layout.size()) {
                ffi::mi_malloc(layout.size()).cast()
            } else {
                ffi::mi_malloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            if is_natural(layout.align(), layout.size()) {
                ffi::mi_zalloc(layout.size()).cast()
            } else {
                ffi::mi_zalloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has it from here.
        unsafe { ffi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller has the block from here, and asks for a size that is not zero.
        unsafe {
            if is_natural(layout.align(), size) {
                ffi::mi_realloc(block.cast(), size).cast()
            } else {
                ffi::mi_realloc_aligned(block.cast(), size, layout.align()).cast()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many of each, so that not only the first of a page is looked at, each grown and shrunk once.
    #[test]
    fn every_block_is_aligned_and_keeps_its_bytes() {
        for align in (0..=13).map(|power| 1 << power) {
            for size in [1, 3, 8, 16, 24, 48, 1000, 1025, 4099, 8192, 20_000, 300_000] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                let blocks: Vec<*mut u8> = (0..9).map(|n| round(layout, n)).collect();
                for block in blocks {
                    // SAFETY: `round` has left it with this layout.
                    unsafe { Allocator.dealloc(block, layout) };
                }
            }
        }
    }

    /// A block, made larger and then as large as before.
    fn round(layout: Layout, mark: u8) -> *mut u8 {
        let larger =
            Layout::from_size_align(layout.size() * 3 + 1, layout.align()).expect("a layout");
        // SAFETY: each layout is that of the block, and no more is written than it has.
        unsafe {
            let zeroed = Allocator.alloc_zeroed(layout);
            assert!(
                std::slice::from_raw_parts(zeroed, layout.size())
                    .iter()
                    .all(|b| *b == 0)
            );
            Allocator.dealloc(zeroed, layout);
            let block = Allocator.alloc(layout);
            block.write_bytes(mark, layout.size());
            let grown = Allocator.realloc(block, layout, larger.size());
            let again = Allocator.realloc(grown, larger, layout.size());
            for block in [zeroed, block, grown, again] {
                assert_eq!(block.addr() % layout.align(), 0, "{layout:?}");
            }
            assert!(
                std::slice::from_raw_parts(again, layout.size())
                    .iter()
                    .all(|b| *b == mark)
            );
            again
        }
    }
}
