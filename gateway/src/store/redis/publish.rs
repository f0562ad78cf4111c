//! Publishes messages on channels, and notes for the other gateways about them.

use deadpool_redis::redis;

use super::Redis;
use crate::store::Result;

/// Publishes `ARGV[2]` on the channel `ARGV[1]`, and `ARGV[3]` on the channel that is the key, with nothing in between.
pub(super) const WITH_NOTE: &str = r"
redis.call('PUBLISH', ARGV[1], ARGV[2])
redis.call('PUBLISH', KEYS[1], ARGV[3])";

impl Redis {
    pub(in crate::store) async fn publish(&self, channel: &[u8], payload: &[u8]) -> Result<()> {
        self.command(channel, redis::cmd("PUBLISH").arg(channel).arg(payload)).await
    }

    /// Publishes a message, and before it the note for gateways.
    pub(in crate::store) async fn publish_with_note(
        &self,
        (channel, payload): (&[u8], &[u8]),
        (beside, note): (&[u8], &[u8]),
    ) -> Result<()> {
        let mut call = self.scripts.publish.key(channel);
        call.arg(beside).arg(note).arg(payload);
        self.script(channel, &call).await
    }
}
