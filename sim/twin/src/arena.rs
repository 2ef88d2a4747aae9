//! A slab whose slots know their generation, so that an event that comes late for what is gone
//! does not reach what took its place.

use slab::Slab;

/// Names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub slot: u32,
    pub generation: u16,
}

#[derive(Debug)]
pub(crate) struct Arena<T> {
    slab: Slab<(u16, T)>,
    generations: Vec<u16>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { slab: Slab::new(), generations: Vec::new() }
    }
}

impl<T> Arena<T> {
    pub fn insert(&mut self, value: T) -> Key {
        let entry = self.slab.vacant_entry();
        let slot = entry.key();
        if slot >= self.generations.len() {
            self.generations.resize(slot + 1, 0);
        }
        let generation = self.generations[slot];
        entry.insert((generation, value));
        Key { slot: slot as u32, generation }
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, value) = self.slab.get(key.slot as usize)?;
        (*generation == key.generation).then_some(value)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(key.slot as usize)?;
        (*generation == key.generation).then_some(value)
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let slot = key.slot as usize;
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        Some(self.slab.remove(slot).1)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// All keys, in the order of their slots.
    pub fn keys(&self) -> Vec<Key> {
        let entries = self.slab.iter();
        entries
            .map(|(slot, (generation, _))| Key { slot: slot as u32, generation: *generation })
            .collect()
    }
}
