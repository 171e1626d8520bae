//! What people see, through a real Chromium: signing in and coming back, devices side by side, what goes wrong, and
//! pages that mean harm. With `LINKSPAN_SCREENSHOTS=FOLDER` the pictures it looks at are kept there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod faults;
mod hostile;
mod people;
mod pictures;
mod provider;
mod recorder;
mod sessions;
mod sign_in;
mod strange_texts;
mod two_hostile;
mod visits;
mod world;
