//! Which names are kept, and which one goes.

use super::*;
use crate::crypto::random::Seeded;

fn peer(name: &str) -> PeerId {
    PeerId::new(name).unwrap()
}

fn pool(subnet: &str) -> AddressPool {
    AddressPool::new(Subnet::parse(subnet).unwrap(), 100)
}

#[test]
fn an_address_sticks_to_its_key() {
    let mut pool = pool("10.66.0.0/16");
    let alice = pool.acquire("A", &peer("alice")).unwrap();
    let bob = pool.acquire("B", &peer("bob")).unwrap();
    assert_eq!(alice.address, Ipv4Addr::new(10, 66, 0, 2));
    assert_eq!(bob.address, Ipv4Addr::new(10, 66, 0, 3));
    assert!(alice.assigned);
    pool.release("A");
    let carol = pool.acquire("C", &peer("carol")).unwrap();
    assert_eq!(carol.address, Ipv4Addr::new(10, 66, 0, 4));
    let again = pool.acquire("A", &peer("alice-again")).unwrap();
    assert_eq!((again.address, again.assigned), (alice.address, false));
}

#[test]
fn who_waits_for_a_key_and_who_has_proven_one_keeps_it_from_being_forgotten() {
    let mut pool = AddressPool::new(Subnet::DEFAULT, 4);
    for (name, proven) in [("waited for", false), ("proven", true), ("not", false)] {
        pool.acquire(name, &peer("p")).unwrap();
        assert!(pool.set_owner(name, Owner { id: 1, proven }));
        assert!(!pool.set_owner(name, Owner { id: 1, proven }));
        pool.release(name);
    }
    pool.wait("waited for", &peer("q"));
    assert_eq!(pool.unheld(), ["waited for".into()]);
    let mut forgotten = Vec::new();
    for number in 0..4 {
        let name = format!("another {number}");
        forgotten.extend(pool.acquire(&name, &peer("p")).unwrap().forgotten);
        pool.release(&name);
    }
    assert_eq!(forgotten, ["not".into(), "another 0".into(), "another 1".into()]);
    assert_eq!(pool.owner("proven"), Some(Owner { id: 1, proven: true }));
    pool.stop_waiting("waited for", &peer("q"));
    assert_eq!(pool.acquire("one more", &peer("p")).unwrap().forgotten.as_deref(), Some("waited for"));
}

#[test]
fn a_full_pool_takes_from_who_left_first_and_then_refuses() {
    let mut pool = pool("10.0.0.0/29");
    for name in ["A", "B", "C", "D", "E"] {
        pool.acquire(name, &peer(name)).unwrap();
    }
    assert_eq!(pool.acquire("F", &peer("f")), Err(Refusal::NoAddress));
    pool.release("C");
    pool.release("B");
    let taken = pool.acquire("F", &peer("f")).unwrap();
    assert_eq!(taken.forgotten.as_deref(), Some("C"));
    assert_eq!(taken.address, Ipv4Addr::new(10, 0, 0, 4));
    assert_eq!(pool.acquire("B", &peer("b")).unwrap().address, Ipv4Addr::new(10, 0, 0, 3));
}

#[test]
fn names_that_nobody_holds_are_bounded() {
    let mut pool = AddressPool::new(Subnet::DEFAULT, 10);
    for count in 0..1000 {
        let name = format!("key{count}");
        pool.acquire(&name, &peer("p")).unwrap();
        pool.release(&name);
    }
    assert!(pool.by_name.len() <= 11, "{}", pool.by_name.len());
    assert_eq!(pool.by_name.len() as u32, pool.taken.iter().map(|bits| bits.count_ones()).sum());
}

#[test]
fn restores_only_what_fits() {
    let mut pool = pool("10.66.0.0/24");
    pool.restore("A", Ipv4Addr::new(10, 66, 0, 9), 5, None);
    pool.restore("B", Ipv4Addr::new(10, 66, 0, 9), 6, None);
    pool.restore("C", Ipv4Addr::new(10, 67, 0, 9), 7, None);
    pool.restore("D", Ipv4Addr::new(10, 66, 0, 1), 8, None);
    assert_eq!(pool.get("A"), Some((Ipv4Addr::new(10, 66, 0, 9), 5)));
    assert_eq!(pool.by_name.len(), 1);
}

impl AddressPool {
    /// The name that is forgotten next, as it is found by looking at all.
    fn oldest(&self) -> Option<Rc<str>> {
        let idle = self
            .by_name
            .iter()
            .filter(|(name, entry)| entry.held.is_none() && !self.waiting.contains_key(*name));
        idle.min_by_key(|(_, entry)| entry.rank()).map(|(name, _)| name.clone())
    }
}

#[test]
fn whatever_happens_to_names_the_one_unused_for_longest_is_forgotten() {
    let mut random = Seeded::new(11);
    let mut forgotten = 0;
    for (subnet, remembered) in [("10.0.0.0/28", 100), ("10.0.0.0/24", 20), ("10.0.0.0/24", 1)] {
        let mut pool = AddressPool::new(Subnet::parse(subnet).unwrap(), remembered);
        // Who holds a name as often as it is said here.
        let mut held: Vec<Rc<str>> = Vec::new();
        for step in 0..6000_u64 {
            let name = format!("key{}", random.below(60));
            let one = (!held.is_empty()).then(|| random.below(held.len() as u64) as usize);
            match (random.below(12), one) {
                (0..4, _) => {
                    let (known, oldest) = (pool.get(&name).is_some(), pool.oldest());
                    let is_full = pool.by_name.len() >= pool.subnet.capacity();
                    let has_to_go = !known && (is_full || pool.idle >= remembered);
                    let acquired = pool.acquire(&name, &peer(&name));
                    assert_eq!(acquired.is_err(), !known && is_full && oldest.is_none());
                    if let Ok(acquired) = acquired {
                        assert_eq!(acquired.forgotten, oldest.filter(|_| has_to_go), "step {step}");
                        forgotten += usize::from(acquired.forgotten.is_some());
                        held.push(acquired.name);
                    }
                }
                (4..7, Some(one)) => pool.release(&held.swap_remove(one)),
                (7, Some(one)) => {
                    let name = held.swap_remove(one);
                    pool.let_go(&name);
                    if random.below(2) == 0 {
                        pool.retire(&name);
                    }
                }
                (8, _) => drop(pool.set_owner(&name, Owner { id: 1, proven: random.below(2) == 0 })),
                (9, _) => pool.wait(&name, &peer("q")),
                (10, _) => pool.stop_waiting(&name, &peer("q")),
                _ if random.below(2) == 0 => drop(pool.forget(&name)),
                _ => {
                    let address = Ipv4Addr::new(10, 0, 0, 2 + random.below(250) as u8);
                    // As from a record that is older, or newer.
                    let order = step * 2 + random.below(100);
                    let address = pool.get(&name).map_or(address, |(address, _)| address);
                    pool.adopt(&name, address, order, None);
                }
            }
            let next = pool.forgettable.first().and_then(|number| pool.by_name.at(number));
            let (next, oldest) = (next.map(|(_, entry)| entry.rank()), pool.oldest());
            assert_eq!(next, oldest.map(|name| pool.by_name.get(&name).unwrap().rank()), "step {step}");
            let taken: u32 = pool.taken.iter().map(|bits| bits.count_ones()).sum();
            assert_eq!(pool.by_name.len() as u32, taken);
        }
    }
    assert!(forgotten > 500, "{forgotten}");
}

#[test]
fn to_forget_one_of_many_names_takes_no_more_steps() {
    let most_steps = |count: usize| {
        let mut pool = AddressPool::new(Subnet::parse("10.0.0.0/8").unwrap(), count);
        for number in 0..count {
            let name = format!("key{number}");
            pool.acquire(&name, &peer("p")).unwrap();
            pool.release(&name);
        }
        let join = |number: usize| {
            let before = pool.forgettable.steps;
            let name = format!("new{number}");
            let acquired = pool.acquire(&name, &peer("p")).unwrap();
            assert_eq!(acquired.forgotten, Some(format!("key{number}").into()));
            pool.release(&name);
            pool.forgettable.steps - before
        };
        (0..100).map(join).max().unwrap()
    };
    // Two for each binary digit, to go out and to come back.
    assert!(most_steps(500) <= 4 * 10 && most_steps(50_000) <= 4 * 17);
}

#[test]
fn the_last_address_of_a_full_pool_is_found_at_once() {
    let mut pool = AddressPool::new(Subnet::parse("10.0.0.0/24").unwrap(), 1000);
    (0..253).for_each(|number| drop(pool.acquire(&format!("key{number}"), &peer("p")).unwrap()));
    assert_eq!(pool.acquire("late", &peer("p")), Err(Refusal::NoAddress));
    for number in [200, 7, 100] {
        pool.release(&format!("key{number}"));
        let address = pool.acquire(&format!("new{number}"), &peer("p")).unwrap().address;
        assert_eq!(address, Ipv4Addr::new(10, 0, 0, number + 2));
    }
    assert!(size_of::<AddressLease>() <= 56, "there may be a million: {}", size_of::<AddressLease>());
}
