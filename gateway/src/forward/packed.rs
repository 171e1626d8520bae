//! The pipe of a stream that is packed on the link.

use std::time::Duration;

use linkspan_protocol::driver::Stream;
use linkspan_protocol::pack::Packed;
use linkspan_protocol::pipe::{PipeEnd, PipeReason, pipe};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::board::Counted;

/// Time for what a device said last to go out: the other end may not read it, or not soon.
const LAST_WORDS: Duration = Duration::from_secs(10);

pub(super) async fn pipe_packed(stream: &mut Stream, device: &mut Counted, idle: Option<Duration>) -> PipeEnd {
    let mut packed = Packed::new(stream);
    let end = pipe(&mut packed, device, idle).await;
    if matches!(end.reason, PipeReason::B(_)) {
        // Whether it went out in time or not: the stream ends now.
        let _late = timeout(LAST_WORDS, packed.flush()).await;
    }
    end
}
