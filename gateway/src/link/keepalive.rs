//! How long this line may be silent: a carrier's NAT forgets a connection after a time that only trying can tell (pure).
//!
//! Each silence that ended with an answer was short enough; one that ended a link was too long, unless the line was down.
//! The span doubles with each answer until one fails: a line costs most while nothing is known of it. From then on it goes
//! up after two answers, to the middle between the longest that held and the shortest that did not, and stays once these are
//! near. It steps back at once, and looks further up ever more rarely.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first span, and the least and the most there are.
pub(super) const FIRST: Duration = Duration::from_secs(60);
const LEAST: Duration = Duration::from_secs(20);
pub(super) const MOST: Duration = Duration::from_secs(15 * 60);

/// Answers after which a longer span is tried, once one has failed.
const ANSWERS: u32 = 2;

/// Time after which a span that failed is tried again: doubled each time, so often at most.
const AGAIN: Duration = Duration::from_secs(6 * 3600);
const AGAIN_MAX: u32 = 6;

/// What is known of one line. It is kept in the state file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(super) struct Learner {
    /// The longest silence that held.
    good: Duration,
    /// The shortest that did not.
    bad: Option<Duration>,
    span: Duration,
    answers: u32,
    /// A span that held before did not: once may be chance.
    doubt: Option<Duration>,
    /// Time passed since a span failed.
    passed: Duration,
    /// How often a span that had failed was tried again.
    again: u32,
}

#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    good_s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bad_s: Option<u64>,
    #[serde(default)]
    again: u32,
}

impl From<Kept> for Learner {
    fn from(kept: Kept) -> Self {
        let seconds = |s: u64| Duration::from_secs(s).min(MOST);
        let good = seconds(kept.good_s);
        let span = if good < LEAST { FIRST } else { good };
        let bad = kept.bad_s.map(Duration::from_secs).filter(|bad| *bad > good && *bad < 2 * MOST);
        Self { good, bad, span, again: kept.again.min(AGAIN_MAX), ..Self::default() }
    }
}

impl From<Learner> for Kept {
    fn from(learner: Learner) -> Self {
        let (good_s, bad_s) = (learner.good.as_secs(), learner.bad.map(|bad| bad.as_secs()));
        Self { good_s, bad_s, again: learner.again }
    }
}

impl Default for Learner {
    fn default() -> Self {
        Self { good: Duration::ZERO, bad: None, span: FIRST, answers: 0, doubt: None, passed: Duration::ZERO, again: 0 }
    }
}

impl Learner {
    /// The silence after which to ask.
    pub(super) fn span(&self) -> Duration {
        self.span
    }

    /// Whether it has found what it looked for.
    pub(super) fn is_settled(&self) -> bool {
        self.doubt.is_none()
            && self.span == self.good
            && (self.good >= MOST || self.bad.is_some_and(|bad| near(self.good, bad)))
    }

    /// A silence was followed by an answer.
    pub(super) fn held(&mut self, silence: Duration) {
        // A shorter one than was to be tried says nothing about this one.
        if silence < self.span {
            return;
        }
        let held = self.span;
        self.good = self.good.max(held);
        self.answers = self.answers.saturating_add(1);
        self.passed += held;
        if self.doubt.is_some_and(|doubt| held >= doubt) {
            self.doubt = None;
        }
        if held < self.good {
            self.go(self.good);
        } else if self.answers >= ANSWERS || self.bad.is_none() {
            self.climb();
        }
    }

    /// A silence was followed by none, although the line is up.
    pub(super) fn lost(&mut self, silence: Duration) {
        let silence = silence.min(self.span);
        if silence > self.good {
            self.bad = Some(self.bad.map_or(silence, |bad| bad.min(silence)));
            self.passed = Duration::ZERO;
            self.go(if self.good < LEAST { half(silence) } else { self.good });
        } else if self.doubt.is_none_or(|doubt| silence > doubt) {
            self.doubt = Some(silence);
            self.go(half(silence));
        } else {
            // Twice: the line is another one than it was.
            (self.bad, self.good, self.doubt) = (Some(silence), half(silence), None);
            (self.passed, self.again) = (Duration::ZERO, 0);
            self.go(self.good);
        }
    }

    fn climb(&mut self) {
        match self.bad {
            _ if self.good >= MOST => {}
            None => self.go(self.good * 2),
            Some(bad) if !near(self.good, bad) => {
                let middle = (self.good.as_secs_f64() * bad.as_secs_f64()).sqrt();
                self.go(Duration::from_secs(middle as u64).max(self.good));
            }
            Some(_) if self.passed >= AGAIN * (1 << self.again) => {
                (self.bad, self.again) = (None, (self.again + 1).min(AGAIN_MAX));
                self.passed = Duration::ZERO;
                self.go(self.good * 5 / 4);
            }
            Some(_) => {}
        }
    }

    fn go(&mut self, span: Duration) {
        self.span = Duration::from_secs(span.as_secs()).clamp(LEAST, MOST);
        self.answers = 0;
    }
}

fn half(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs() / 2).max(LEAST)
}

/// Whether there is nothing worth looking for between a span that held and one that did not.
fn near(good: Duration, bad: Duration) -> bool {
    bad * 4 <= good * 5
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    /// A line whose NAT forgets after a time; and where a link is lost by chance as it is asked, so often.
    struct Line {
        forgets: Duration,
        chance: f64,
        random: fastrand::Rng,
    }

    /// What a month on that line was like.
    #[derive(Debug, Default)]
    struct Month {
        lost: u32,
        lost_last_week: u32,
        questions: u32,
        changes_last_week: u32,
    }

    impl Line {
        fn new(forgets: Duration) -> Self {
            Self { forgets, chance: 0.0, random: fastrand::Rng::with_seed(7) }
        }

        fn month(&mut self, learner: &mut Learner) -> Month {
            let (mut month, mut now) = (Month::default(), Duration::ZERO);
            while now < 30 * DAY {
                let span = learner.span();
                now += span;
                month.questions += 1;
                if span >= self.forgets || self.random.f64() < self.chance {
                    learner.lost(span);
                    month.lost += 1;
                    month.lost_last_week += u32::from(now > 23 * DAY);
                } else {
                    learner.held(span);
                }
                month.changes_last_week += u32::from(now > 23 * DAY && learner.span() != span);
            }
            month
        }
    }

    #[test]
    fn it_finds_what_each_nat_allows_and_stays_there() {
        for (forgets, least) in [(45, 34), (60, 47), (120, 95), (300, 240), (1800, 900)] {
            let mut learner = Learner::default();
            let month = Line::new(Duration::from_secs(forgets)).month(&mut learner);
            let span = learner.span().as_secs();
            assert!((least..forgets.min(901)).contains(&span), "a NAT of {forgets} s: {span} s, {month:?}");
            assert!(learner.is_settled(), "{learner:?}");
            assert!(month.lost <= 12 && month.lost_last_week <= 1, "a NAT of {forgets} s: {month:?}");
            assert!(month.changes_last_week <= 3, "a NAT of {forgets} s: {month:?}");
        }
    }

    #[test]
    fn it_is_soon_at_the_top_where_nothing_forgets() {
        let (mut learner, mut passed) = (Learner::default(), Duration::ZERO);
        while !learner.is_settled() {
            passed += learner.span();
            learner.held(learner.span());
        }
        assert_eq!(learner.span(), MOST);
        assert!(passed <= 30 * MINUTE, "{passed:?}");
    }

    /// A question with its answer and the acknowledgement of that is 212 bytes on the line, as `bench` sees it.
    #[test]
    fn a_first_month_of_nothing_but_questions_costs_what_is_said() {
        for (forgets, megabytes) in [(1800, 0.7), (600, 1.2), (300, 2.0)] {
            let month = Line::new(Duration::from_secs(forgets)).month(&mut Learner::default());
            let spent = f64::from(month.questions) * 212.0 / 1e6;
            assert!(spent < megabytes, "a NAT of {forgets} s: {spent} MB, {month:?}");
        }
    }

    #[test]
    fn chance_is_not_taken_for_a_nat() {
        for seed in 0..20 {
            let mut line = Line::new(2 * MOST);
            (line.chance, line.random) = (0.01, fastrand::Rng::with_seed(seed));
            let mut learner = Learner::default();
            let month = line.month(&mut learner);
            // 15 minutes are 2880 questions a month; a third more is the price of being careful.
            assert!(month.questions < 4000, "seed {seed}: {month:?}, {learner:?}");
        }
    }

    #[test]
    fn it_steps_back_at_once_and_follows_another_nat() {
        let mut learner = Learner::default();
        Line::new(2 * MOST).month(&mut learner);
        assert_eq!(learner.span(), MOST);
        learner.lost(MOST);
        assert_eq!(learner.span(), MOST / 2);
        learner.held(MOST / 2);
        assert_eq!(learner.span(), MOST, "once is chance");
        let month = Line::new(2 * MINUTE).month(&mut learner);
        assert!(learner.span() < 2 * MINUTE && learner.span() > MINUTE, "{learner:?}, {month:?}");
        let month = Line::new(5 * MINUTE).month(&mut learner);
        assert!(learner.span() > 3 * MINUTE, "it looks up again: {learner:?}, {month:?}");
    }

    #[test]
    fn shorter_silences_teach_nothing_and_what_is_kept_comes_back() {
        let mut learner = Learner::default();
        for _ in 0..10 {
            learner.held(FIRST / 2);
        }
        assert_eq!(learner, Learner::default());
        Line::new(5 * MINUTE).month(&mut learner);
        let again: Learner = serde_json::from_str(&serde_json::to_string(&learner).unwrap()).unwrap();
        assert_eq!(again.span(), learner.good);
        assert_eq!((again.good, again.bad), (learner.good, learner.bad));
        for odd in [r#"{"good_s":0}"#, r#"{"good_s":99999999999999,"bad_s":1}"#, r#"{"good_s":900,"again":4000000000}"#]
        {
            let learner: Learner = serde_json::from_str(odd).unwrap();
            assert!((LEAST..=MOST).contains(&learner.span()) && learner.again <= AGAIN_MAX, "{odd}: {learner:?}");
        }
    }
}
