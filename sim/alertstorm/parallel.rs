//! The same work on many things, on all cores; results in the order of the things.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::interrupt;

/// Does `work` on each of `items`, on `threads` threads or as many as there are cores. What was not
/// begun when somebody asked for the end is nothing.
pub fn map<T: Sync, R: Send>(
    threads: Option<NonZeroUsize>,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.map_or(cores, NonZeroUsize::get).min(items.len());
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !interrupt::asked() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(item), Some(slot)) = (items.get(number), done.get(number)) else {
                        break;
                    };
                    let result = work(item);
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    let of = |slot: Mutex<Option<R>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().map(of).collect()
}
