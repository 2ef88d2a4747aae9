//! Storage for entities with typed keys: a key of one kind of entity cannot address another kind.
//! A slot is reused under the next generation, so an event that arrives late for a removed entity
//! does not reach the entity that took its slot.

use std::fmt;
use std::marker::PhantomData;

use slab::Slab;

/// Addresses an entity of type `T`. Six bytes and an alignment of two, so that an event with a key
/// fits into eight bytes.
#[repr(Rust, packed(2))]
pub(crate) struct Key<T> {
    slot: u32,
    generation: u16,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    const fn new(slot: usize, generation: u16) -> Self {
        Self { slot: slot as u32, generation, of: PhantomData }
    }

    /// The slot alone: unique among the entities that exist at one instant.
    pub const fn slot(self) -> u32 {
        self.slot
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.slot(), self.generation) == (other.slot(), other.generation)
    }
}

impl<T> Eq for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slot, generation) = (self.slot, self.generation);
        write!(f, "Key({slot}, {generation})")
    }
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
    pub fn insert(&mut self, value: T) -> Key<T> {
        let entry = self.slab.vacant_entry();
        let slot = entry.key();
        if slot >= self.generations.len() {
            self.generations.resize(slot + 1, 0);
        }
        let generation = self.generations[slot];
        entry.insert((generation, value));
        Key::new(slot, generation)
    }

    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let (generation, value) = self.slab.get(key.slot as usize)?;
        (*generation == key.generation).then_some(value)
    }

    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(key.slot as usize)?;
        (*generation == key.generation).then_some(value)
    }

    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        let slot = key.slot as usize;
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        Some(self.slab.remove(slot).1)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// All keys, in the order of their slots.
    pub fn keys(&self) -> Vec<Key<T>> {
        let entries = self.slab.iter();
        entries.map(|(slot, (generation, _))| Key::new(slot, *generation)).collect()
    }
}

/// Values that one component keeps for entities of another component's arena.
#[derive(Debug)]
pub(crate) struct SideTable<T, V> {
    /// By slot, with the generation of the entity.
    values: Vec<Option<(u16, V)>>,
    of: PhantomData<fn() -> T>,
}

impl<T, V> Default for SideTable<T, V> {
    fn default() -> Self {
        Self { values: Vec::new(), of: PhantomData }
    }
}

impl<T, V: Copy> SideTable<T, V> {
    pub fn insert(&mut self, key: Key<T>, value: V) {
        let slot = key.slot as usize;
        if slot >= self.values.len() {
            self.values.resize(slot + 1, None);
        }
        self.values[slot] = Some((key.generation, value));
    }

    pub fn get(&self, key: Key<T>) -> Option<V> {
        let (generation, value) = (*self.values.get(key.slot as usize)?)?;
        (generation == key.generation).then_some(value)
    }

    pub fn remove(&mut self, key: Key<T>) -> Option<V> {
        let value = self.get(key)?;
        self.values[key.slot as usize] = None;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_entity_does_not_reach_the_next_one_in_its_slot() {
        let mut arena = Arena::default();
        let mut table = SideTable::default();
        let first = arena.insert("first");
        table.insert(first, 1);
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!(first.slot(), second.slot());
        assert_eq!((arena.get(first), arena.get(second)), (None, Some(&"second")));
        assert_eq!((table.get(first), table.get(second)), (Some(1), None));
        assert_eq!(arena.remove(first), None);
    }
}
