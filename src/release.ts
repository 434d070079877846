/**
 * What this build is: its version (package.json's, a test holds them together) and the day before
 * which no clock is right.
 */
export const version = '0.1.0'
/** 2026-11-21T00:00:00Z in microseconds. A wall clock below it has certainly not been set. */
export const releasedAtUs = 1_795_219_200_000_000
