//! A small timing loop that prints ratios: all rows of a table run in turns, so that what slows the machine down slows
//! every row down.

pub mod decide;
pub mod seal;

use std::{
    hint::black_box,
    sync::Barrier,
    time::{Duration, Instant},
};

const ROUNDS: usize = 101;
/// Shorter than a scheduler gives a thread at once, so that most samples are not interrupted.
const SAMPLE: Duration = Duration::from_millis(1);

/// Rows that are measured side by side. The first row is what the others are compared with.
pub struct Table<'a> {
    title: String,
    bytes: usize,
    rows: Vec<Row<'a>>,
    pairs: Vec<(String, String)>,
}

struct Row<'a> {
    name: String,
    run: Box<dyn FnMut(u32) -> Duration + 'a>,
    nanos: Vec<f64>,
}

impl<'a> Table<'a> {
    /// Starts a table of operations on `bytes` bytes each.
    pub fn new(title: impl Into<String>, bytes: usize) -> Self {
        Self { title: title.into(), bytes, rows: Vec::new(), pairs: Vec::new() }
    }

    /// Adds an operation.
    pub fn row<R>(&mut self, name: impl Into<String>, mut operation: impl FnMut() -> R + 'a) {
        self.timed(name, move |times| {
            let start = Instant::now();
            for _ in 0..times {
                black_box(operation());
            }
            start.elapsed()
        });
    }

    /// Adds something that is given how often to do it, and says how long that took by a clock of its own.
    pub fn timed(&mut self, name: impl Into<String>, run: impl FnMut(u32) -> Duration + 'a) {
        self.rows.push(Row { name: name.into(), run: Box::new(run), nanos: Vec::new() });
    }

    /// Prints how fast one row is beside another that does the same for the memory: that copies, allocates and wipes alike.
    pub fn compare(&mut self, ours: impl Into<String>, theirs: impl Into<String>) {
        self.pairs.push((ours.into(), theirs.into()));
    }

    /// Measures all rows in turns and prints the medians as a Markdown table.
    pub fn print(mut self) {
        let times: Vec<u32> = self.rows.iter_mut().map(Row::calibrate).collect();
        for _ in 0..ROUNDS {
            for (row, times) in self.rows.iter_mut().zip(&times) {
                let elapsed = (row.run)(*times);
                row.nanos.push(elapsed.as_secs_f64() * 1e9 / f64::from(*times));
            }
        }
        let medians: Vec<f64> = self.rows.iter_mut().map(|row| median(&mut row.nanos)).collect();
        println!("\n### {}\n\n| | median | GB/s | time ÷ the first |\n|---|---:|---:|---:|", self.title);
        for (row, nanos) in self.rows.iter().zip(&medians) {
            let speed = self.bytes as f64 / nanos;
            println!("| {} | {} | {speed:.2} | {:.2} |", row.name, unit(*nanos), nanos / medians[0]);
        }
        if self.pairs.is_empty() {
            return;
        }
        let nanos = |name: &str| {
            let row = self.rows.iter().position(|row| row.name == name);
            medians[row.unwrap_or_else(|| panic!("there is no row `{name}`"))]
        };
        println!("\n| speed of | beside | ratio |\n|---|---|---:|");
        for (ours, theirs) in &self.pairs {
            println!("| {ours} | {theirs} | {:.2} |", nanos(theirs) / nanos(ours));
        }
    }
}

impl Row<'_> {
    /// How many times fill one sample.
    fn calibrate(&mut self) -> u32 {
        let mut times = 1;
        loop {
            let elapsed = (self.run)(times);
            if elapsed * 2 > SAMPLE || times > 1 << 28 {
                let ratio = SAMPLE.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
                return ((f64::from(times) * ratio) as u32).max(1);
            }
            times *= 2;
        }
    }
}

/// Prints how often one thread and two threads run an operation in the same time, in turns.
pub fn print_scaling(title: &str, rows: &[(&str, &(dyn Fn() + Sync))]) {
    println!("\n### {title}\n\n| | one thread, thousand/s | two threads | ratio |\n|---|---:|---:|---:|");
    for (name, operation) in rows {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            one.push(rate(1, operation));
            two.push(rate(2, operation));
        }
        let (one, two) = (median(&mut one), median(&mut two));
        println!("| {name} | {:.1} | {:.1} | {:.2} |", one / 1e3, two / 1e3, two / one);
    }
}

/// How often per second `threads` threads together run the operation.
fn rate(threads: usize, operation: &(dyn Fn() + Sync)) -> f64 {
    let barrier = Barrier::new(threads);
    let one = || {
        barrier.wait();
        let (start, mut times) = (Instant::now(), 0);
        while start.elapsed() < SAMPLE * 2 {
            (0..100).for_each(|_| operation());
            times += 100;
        }
        f64::from(times) / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|s| {
        let running: Vec<_> = (0..threads).map(|_| s.spawn(one)).collect();
        running.into_iter().map(|t| t.join().expect("the operation does not fail")).sum()
    })
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn unit(nanos: f64) -> String {
    match nanos {
        n if n < 10_000.0 => format!("{n:.0} ns"),
        n if n < 10_000_000.0 => format!("{:.1} µs", n / 1e3),
        n => format!("{:.1} ms", n / 1e6),
    }
}
