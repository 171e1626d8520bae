//! Which month it is: by the server's clock, since those of routers cannot be trusted (pure).

use std::time::Duration;

use tokio::time::Instant;

/// The server's clock as it was told, and when that was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    /// Seconds since 1970-01-01 in the zone in which months begin.
    told: i64,
    at: Instant,
}

impl Calendar {
    /// `time` in seconds since 1970-01-01 UTC, and by how much the months' zone is ahead of it.
    pub(super) fn new(time: u64, utc_offset_s: i32, at: Instant) -> Self {
        let told = i64::try_from(time).unwrap_or(i64::MAX).saturating_add(utc_offset_s.into());
        Self { told, at }
    }

    /// The month: `2026-11`.
    pub(super) fn month(&self, now: Instant) -> String {
        let since: Duration = now.saturating_duration_since(self.at);
        let seconds = self.told.saturating_add(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        let (year, month) = year_and_month(seconds.div_euclid(86_400));
        format!("{year:04}-{month:02}")
    }
}

/// From days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"). What is too far away for
/// a clock that is right at all ends in the year 9999.
fn year_and_month(days: i64) -> (i64, i64) {
    const LAST_DAY: i64 = 2_932_896;
    let days = days.clamp(0, LAST_DAY) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_they_should() {
        let month = |seconds: u64, offset| Calendar::new(seconds, offset, Instant::now()).month(Instant::now());
        assert_eq!(month(0, 0), "1970-01");
        assert_eq!(month(1_709_164_799, 0), "2024-02");
        assert_eq!(month(1_709_251_200, 0), "2024-03", "after the 29th of February");
        assert_eq!(month(1_798_761_599, 0), "2026-12");
        assert_eq!(month(1_798_761_600, 0), "2027-01");
        assert_eq!(month(1_798_761_600 - 3600, 3600), "2027-01", "in a zone that is ahead");
        assert_eq!(month(0, -3600), "1970-01");
        assert_eq!(month(u64::MAX, i32::MAX), "9999-12");
    }

    #[tokio::test(start_paused = true)]
    async fn time_goes_on_after_the_server_told_it() {
        let calendar = Calendar::new(1_798_761_600 - 10, 0, Instant::now());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(calendar.month(Instant::now()), "2026-12");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(calendar.month(Instant::now()), "2027-01");
    }
}
