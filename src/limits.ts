/** Every bound of the system with its arithmetic: whatever grows has its ceiling here. Units last in each name. */

const KiB = 1024
const MiB = 1024 * KiB

// ── segment ─────────────────────────────────────────────────────────────────────────────────────
/** One minute of a 1,000-series gateway; research: 60 k points a segment cost 1.16 bytes a point. */
export const segmentPointsMax = 60_000
/** Stored size of one segment: far above 60 k points of any numbers (17 B raw), and room for strings. */
export const segmentBytesMax = 4 * MiB
/** Decompressed body: checked against the header before any decompression is tried. */
export const segmentRawBytesMax = 32 * MiB
/** A string value; longer ones are refused at the door. */
export const textBytesMax = 64 * KiB
export const segmentTextBytesMax = 16 * MiB

// ── series ──────────────────────────────────────────────────────────────────────────────────────
export const seriesMax = 200_000
export const seriesNameBytesMax = 512
export const seriesTagsMax = 32
export const seriesKeyBytesMax = 4 * KiB
/** Contracts a series had, by time, 130 bytes each; of more the oldest two become one without a bound. */
export const contractVersionsMax = 16

// ── intake ──────────────────────────────────────────────────────────────────────────────────────
/** One HTTP body or MQTT payload. */
export const messageBytesMax = 8 * MiB
/** Decompressed HTTP body. */
export const messageRawBytesMax = 32 * MiB
/** Points handed to the spool and not yet durable: 4 full segments of 26 bytes a point. */
export const intakeBytesWaitingMax = 4 * 60_000 * 26
/** Bodies of the HTTP door not yet durable: the largest one, packed and unpacked, and half again. */
export const httpBytesInFlightMax = 64 * MiB
export const httpConnectionsMax = 512
export const quarantineSampleBytesMax = 4 * KiB
export const quarantineRowsMax = 1_000
/** Copies of points that a destination refused: of one segment, and bytes of all, 4 KiB a row. */
export const refusedPointsMax = 1_000
export const refusedBytesMax = 4 * MiB

// ── spool ───────────────────────────────────────────────────────────────────────────────────────
export const laneIdMax = 511
/** 2^44 seqs at 10 seals a second last 55,000 years; lane * 2^44 + seq stays below 2^53. */
export const seqBits = 44
export const gapRowsMax = 10_000
export const keptBytesMax = 4 * MiB
/** Least quota that a configuration may give: the reserve, and room for a burst of messages. */
export const spoolBytesMin = 4 * MiB
/** Inserts stop this far short of `max_page_count`; only gaps and cursors may use the rest. */
export const spoolReserveBytes = 1 * MiB
export const commitWindowMsDefault = 100
export const maxDelayMsDefault = 1_000
export const keepSentMsDefault = 24 * 3_600_000

// ── relay ───────────────────────────────────────────────────────────────────────────────────────
/** One request: NUMBERS: 256 KB bodies reach 261 MB/s, larger ones gain little. */
export const relayBodyBytesMax = 8 * MiB
export const relayBodyBytesDefault = 512 * KiB
export const relayFramesMax = 1_024
/**
 * Points of one read of a lane, so of one request: four full segments. Larger transactions gain nothing, and eight of
 * these (two pumps) are merged by a slow region within a request's 30 s: 8 × 240 k at 0.1 M/s are 19 s.
 */
export const readPointsMax = 4 * segmentPointsMax
export const dictionaryEntriesPerRequestMax = 5_000
/** Priorities of lanes: 0 goes first; replays go behind every lane. */
export const priorityLast = 10
export const priorityDefault = 5
export const requestsInFlightDefault = 4
/** A link that is back is used within 30 s, whatever the length of the outage (invariant I7). */
export const backoffMsMax = 20_000
export const backoffMsMin = 250
export const retryAfterMsMax = 900_000
export const helloIdleMs = 60_000
export const cloneSilenceMs = 600_000
/** Epochs that still hold something: one restart every 5 minutes for a month offline; 8 MiB hold 400 bytes each. */
export const helloEpochsMax = 16_384
/** Decoded points of one request and of all at work in one regional node: 26 bytes each, and the raw bodies. */
export const requestDecodedBytesMax = 96 * MiB
export const regionalDecodedBytesMax = 384 * MiB
/**
 * The same of one transaction of an agent that writes to its database by itself: 240 k points decode to 6 MB, so two
 * at once, with their rows, stay within 32 MB. More is cut; a single segment comes alone.
 */
export const postgresDecodedBytesMax = 16 * MiB
/** Bodies held by one regional node, and requests at work: each holds a database connection while it commits. */
export const regionalBytesMax = 128 * MiB
export const regionalRequestsMax = 64

// ── mapping ─────────────────────────────────────────────────────────────────────────────────────
/** Containers inside containers of one JSON message; deeper parts are refused. */
export const jsonDepthMax = 16
/** Points of one message: one full segment. */
export const messagePointsMax = 60_000
