/** How many signals a property is tried with: as many as a change asks for, ten times that for a release. */
export const runsOf = (aChange: number): number => {
  const asked = process.env.HOLDFAST_REDUCE_RUNS
  if (asked !== undefined) return Number(asked)
  return process.env.HOLDFAST_TEST_RELEASE === '1' ? aChange * 10 : aChange
}
