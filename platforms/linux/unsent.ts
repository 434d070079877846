/**
 * `unsent.mjs SPOOL`: prints how many accepted points a spool holds that some destination still lacks.
 *
 * Invariants: changes nothing in the file; a file it cannot vouch for makes it fail, never answer 0. The last acks before a crash are
 * not in the file: then it says too many, never too few.
 */
import Database from 'better-sqlite3'
import { unsentPoints } from '../../src/spool/unsent.ts'

const [, , path = '/var/lib/holdfast/spool.db'] = process.argv
const db = new Database(path, { readonly: true, fileMustExist: true, timeout: 0 })
process.stdout.write(`${unsentPoints(db)}\n`)
db.close()
