/**
 * `node busy-loop.ts`: has a Node process whose inspector listens in this network run JavaScript that never ends, as a
 * bug would: its event loop stands, while all its threads and the kernel go on. Ends once it does.
 */
const pages = async (): Promise<readonly { readonly webSocketDebuggerUrl: string }[]> => {
  for (let tries = 0; ; tries++) {
    try {
      return (await (await fetch('http://127.0.0.1:9229/json')).json()) as never
    } catch (error) {
      // The signal was sent a moment ago.
      if (tries === 100) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
const [page] = await pages()
if (page === undefined) throw new Error('nothing to inspect')
const socket = new WebSocket(page.webSocketDebuggerUrl)
await new Promise((resolve) => socket.addEventListener('open', resolve))
const ask = (id: number, method: string, params: object) =>
  socket.send(JSON.stringify({ id, method, params }))
/** It answers by the time it does not any more. */
const heard = new Promise((resolve) => socket.addEventListener('message', resolve))
ask(1, 'Runtime.evaluate', { expression: 'setTimeout(() => { for (;;); }, 100); 1' })
await heard
process.stdout.write('busy\n')
socket.close()
process.exit(0)

export {}
