//! When the end of a credential is announced: 14, 3 and 1 days before, each once; after a pause the nearest one only.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Account, ExpiryNotice};

/// Days before the end, the fewest first.
const DAYS: [u8; 3] = [1, 3, 14];

fn days(count: u8) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(count))
}

/// The announcement that is due, if it was not made; none after the end.
pub(in crate::service) fn due(account: &Account, now: Timestamp) -> Option<ExpiryNotice> {
    let expires_at = account.expires_at.filter(|end| *end > now)?;
    let left = expires_at.duration_since(now);
    let days = DAYS.into_iter().find(|count| left <= days(*count))?;
    let is_made = account.expiry_notice.is_some_and(|made| made.expires_at == expires_at && made.days <= days);
    (!is_made).then_some(ExpiryNotice { expires_at, days })
}

/// When the next one will be.
pub(in crate::service) fn next(account: &Account, now: Timestamp) -> Option<Timestamp> {
    let expires_at = account.expires_at?;
    let mut times = DAYS.into_iter().rev().filter_map(|count| expires_at.checked_sub(days(count)).ok());
    times.find(|time| *time > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EnvironmentId;

    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ending(second: i64) -> Account {
        let mut account = Account::draft(EnvironmentId::generate(), "scim".parse().unwrap(), "bearer".to_owned(), at(0));
        account.expires_at = Some(at(second));
        account
    }

    #[test]
    fn each_is_announced_once_and_only_the_nearest() {
        let mut account = ending(20 * DAY);
        let mut told = Vec::new();
        for hour in 0..25 * 24 {
            if let Some(notice) = due(&account, at(hour * 3600)) {
                told.push((hour / 24, notice.days));
                account.expiry_notice = Some(notice);
            }
        }
        assert_eq!(told, [(6, 14), (17, 3), (19, 1)]);
        let slept = ending(20 * DAY);
        assert_eq!(due(&slept, at(18 * DAY)).map(|notice| notice.days), Some(3));
        assert_eq!(due(&slept, at(20 * DAY)), None, "what has ended does not end soon");
    }

    #[test]
    fn another_end_is_announced_anew() {
        let mut account = ending(20 * DAY);
        account.expiry_notice = due(&account, at(19 * DAY));
        account.expires_at = Some(at(30 * DAY));
        assert_eq!(due(&account, at(19 * DAY)).map(|notice| notice.days), Some(14));
        account.expires_at = None;
        assert_eq!((due(&account, at(0)), next(&account, at(0))), (None, None));
    }

    #[test]
    fn the_next_time_is_known() {
        let account = ending(20 * DAY);
        for (now, time) in [(0, Some(6)), (6, Some(17)), (7, Some(17)), (17, Some(19)), (19, None), (40, None)] {
            assert_eq!(next(&account, at(now * DAY)), time.map(|day| at(day * DAY)), "day {now}");
        }
    }
}
