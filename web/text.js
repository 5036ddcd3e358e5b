// SPDX-License-Identifier: Apache-2.0
// A guest's text console or serial port in a terminal.
import { socketUrl } from "/web/api.js";
import { FitAddon, Terminal } from "/web/vendor/xterm.js";

export class Text {
  constructor(element, path, port, onEnd) {
    this.terminal = new Terminal({ scrollback: 5000 });
    const fit = new FitAddon();
    this.terminal.loadAddon(fit);
    this.terminal.open(element);
    fit.fit();
    this.sized = new ResizeObserver(() => fit.fit());
    this.sized.observe(element);
    this.socket = new WebSocket(socketUrl(`${path}/console?port=${port}`));
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (e) => this.terminal.write(new Uint8Array(e.data));
    this.socket.onclose = (e) => { if (this.socket) onEnd(e.reason || "the console's connection broke"); };
    const encoder = new TextEncoder();
    this.terminal.onData((text) => this.send(encoder.encode(text)));
    this.terminal.onBinary((text) => this.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    this.terminal.focus();
  }

  send(bytes) {
    if (this.socket?.readyState === WebSocket.OPEN)
      this.socket.send(bytes);
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.sized.disconnect();
    this.terminal.dispose();
  }
}
