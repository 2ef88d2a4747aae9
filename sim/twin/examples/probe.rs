//! probe
use alertstorm_model::measure::*;
use alertstorm_model::scenario::*;
use std::ops::ControlFlow;
struct F(String);
impl Files for F { fn read(&self, n: &str) -> Result<String, String> { std::fs::read_to_string(format!("{}/{n}", self.0)).map_err(|e| e.to_string()) } }
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&a[1]).unwrap();
    let sets: Vec<Override> = a[2..].iter().map(|s| { let (p, v) = s.split_once('=').unwrap(); Override { path: p.into(), value: v.into() } }).collect();
    let dir = std::path::Path::new(&a[1]).parent().unwrap().to_str().unwrap().to_owned();
    let plan = match load(&text, &a[1], &sets, &F(dir)) { Ok(p) => p, Err(e) => { for p in e { println!("{p}"); } return } };
    let mut m = Measures::default();
    let t = std::time::Instant::now();
    let p = alertstorm_twin::run(&plan, &mut m, &mut |_| ControlFlow::Continue(()));
    m.close();
    println!("{:?} {:.2}s {:.1} M ev/s log {}", p, t.elapsed().as_secs_f64(), p.events as f64 / t.elapsed().as_secs_f64() / 1e6, m.events());
    println!("{:?} {:?} invalid {:?}", m.accounting, m.leases(), m.invalid);
    for l in m.latencies.iter() { let r = l.row(); println!("{:>18} {:>18} n {:5} f {} c {} p50 {:?} p95 {:?} p99 {:?} max {:?}", r.from, r.to, r.count, r.failed, r.censored, r.p50_s, r.p95_s, r.p99_s, r.max_s); }
    for s in m.paths.shares().iter().take(8) { println!("{:50} {:.3} {:.3}s", s.component.word(), s.share, s.mean_s); }
    let s = m.last_sample.as_ref().unwrap();
    for c in &s.api_calls { println!("{} {} {} {} rej {}", c.verb, c.resource, c.level, c.count, c.rejected); }
    for c in &s.cpu { println!("{} {} {:.2}s", c.host, c.process, c.busy_ns as f64 / 1e9); }
    for c in &s.waits { println!("{} n {} p50 {} p99 {} max {}", c.what, c.count, c.p50_ns/1000, c.p99_ns/1000, c.max_ns/1000); }
    println!("{:?} {:?} {}", s.etcd, s.audit, m.digest());
    for o in alertstorm_model::investigation::Outcome::ALL { print!("{o} {} ", m.outcome(*o)); }
    println!("cost {} {:?}", m.cost_usd(), m.actions);
}
