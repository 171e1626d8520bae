//! A small water works that runs by itself: a tank, two pumps, and a controller that keeps the level.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// Lines of the event log that are kept.
const EVENTS: usize = 50;

/// The state of the works, as its page shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Values {
    /// Seconds since the controller was switched on.
    pub uptime: u64,
    /// Percent of the tank.
    pub level: f64,
    /// Percent that the controller aims at.
    pub setpoint: f64,
    /// Litres a second.
    pub inflow: f64,
    /// Litres a second.
    pub outflow: f64,
    /// Bar behind the pumps.
    pub pressure: f64,
    /// Degrees Celsius of the motor of pump 1 and of pump 2.
    pub temperature: [f64; 2],
    /// Whether pump 1 and pump 2 run.
    pub running: [bool; 2],
    /// Milliseconds of the controller's last cycle.
    pub cycle: f64,
}

/// The works and what happened in it.
#[derive(Debug)]
pub(super) struct Plant {
    values: Values,
    clock: Duration,
    random: StdRng,
    events: VecDeque<String>,
    happened: u64,
}

impl Plant {
    pub(super) fn new(seed: u64) -> Self {
        let values = Values {
            uptime: 0,
            level: 55.0,
            setpoint: 60.0,
            inflow: 0.0,
            outflow: 18.0,
            pressure: 0.3,
            temperature: [41.0, 38.5],
            running: [false; 2],
            cycle: 4.0,
        };
        let mut plant = Self {
            values,
            clock: Duration::ZERO,
            random: StdRng::seed_from_u64(seed),
            events: VecDeque::new(),
            happened: 0,
        };
        plant.note("Controller started, mode RUN");
        plant
    }

    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// The events after the first `seen` ones, oldest first, and how many there have been.
    pub(super) fn events_after(&self, seen: u64) -> (Vec<String>, u64) {
        let new = usize::try_from(self.happened.saturating_sub(seen)).unwrap_or(EVENTS).min(self.events.len());
        (self.events.iter().skip(self.events.len() - new).cloned().collect(), self.happened)
    }

    pub(super) fn set_setpoint(&mut self, percent: f64, by: &str) {
        self.values.setpoint = percent.clamp(10.0, 90.0);
        let text = format!("Setpoint level {:.1} % by {by}", self.values.setpoint);
        self.note(&text);
    }

    /// Lets so much time pass.
    pub(super) fn step(&mut self, time: Duration) {
        self.clock += time;
        let seconds = time.as_secs_f64();
        let mut noise = |spread: f64| self.random.random_range(-spread..=spread);
        let values = &mut self.values;
        values.uptime = self.clock.as_secs();
        values.outflow = (values.outflow + noise(0.6)).clamp(12.0, 26.0);
        values.cycle = (values.cycle + noise(0.3)).clamp(3.1, 6.2);
        let pumps = values.running.iter().filter(|on| **on).count() as f64;
        values.inflow += (pumps * 16.0 - values.inflow) * (0.5 * seconds).min(1.0);
        values.pressure = 0.3 + pumps * 1.45 + noise(0.04);
        values.level = (values.level + (values.inflow - values.outflow) * seconds * 0.12).clamp(0.0, 100.0);
        for (temperature, on) in values.temperature.iter_mut().zip(values.running) {
            let aim = if on { 62.0 } else { 36.0 };
            *temperature += (aim - *temperature) * (0.02 * seconds).min(1.0) + noise(0.05);
        }
        for (pump, below, above) in [(0, -2.0, 3.0), (1, -5.0, 0.5)] {
            self.switch(pump, below, above);
        }
    }

    /// A pump runs from so much below the setpoint to so much above it.
    fn switch(&mut self, pump: usize, below: f64, above: f64) {
        let off = self.values.level - self.values.setpoint;
        let wanted = if self.values.running[pump] { off < above } else { off < below };
        if wanted != self.values.running[pump] {
            self.values.running[pump] = wanted;
            let text = format!("Pump P{} {}", pump + 1, if wanted { "ON" } else { "OFF" });
            self.note(&text);
        }
    }

    fn note(&mut self, text: &str) {
        let at = self.clock.as_secs();
        let line = format!("{:02}:{:02}:{:02}  {text}", at / 3600, at / 60 % 60, at % 60);
        self.events.push_back(line);
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
        self.happened += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_keeps_the_level_near_what_is_asked_for() {
        let mut plant = Plant::new(3);
        for setpoint in [60.0, 80.0, 30.0] {
            plant.set_setpoint(setpoint, "test");
            for _ in 0..2000 {
                plant.step(Duration::from_millis(500));
            }
            assert!((plant.values().level - setpoint).abs() < 8.0, "{:?}", plant.values());
        }
        let (events, happened) = plant.events_after(0);
        assert!(events.len() <= EVENTS && happened >= events.len() as u64);
        assert!(events.iter().any(|e| e.ends_with("Pump P1 ON")), "{events:?}");
        assert_eq!(plant.events_after(happened).0.len(), 0);
    }
}
