// SPDX-License-Identifier: Apache-2.0
// A guest's screen: RFB over the API's WebSocket.
import { socketUrl } from "/web/api.js";
import RFB from "/web/vendor/novnc.js";

const KEYSYM = { shift: 0xffe1, altgr: 0xfe03 };
/* Between the keys that are typed for the user: a guest's keyboard controller holds 16 bytes. */
const KEY_PAUSE = 15;

export class Screen {
  constructor(element, path, onEnd) {
    this.rfb = new RFB(element, socketUrl(`${path}/display`), { shared: true });
    this.rfb.scaleViewport = true;
    this.rfb.background = "#000";
    this.rfb.addEventListener("connect", () => this.rfb.focus());
    this.rfb.addEventListener("disconnect", (e) => this.onGone(e, onEnd));
  }

  onGone(event, onEnd) {
    if (this.rfb === null)
      return;
    this.rfb = null;
    onEnd(event.detail.clean ? "" : "the screen's connection broke");
  }

  close() {
    const rfb = this.rfb;
    this.rfb = null;
    rfb?.disconnect();
  }

  ctrlAltDel() {
    this.rfb.sendCtrlAltDel();
  }

  /** Press keys as a user at a keyboard of that layout would. The characters that it does not have are returned. */
  async type(text, layout) {
    const left = [];
    for (const ch of text.replaceAll("\r\n", "\n")) {
      const key = layout.key(ch);
      if (key === undefined)
        left.push(ch);
      else if (this.rfb)
        await this.press(key);
    }
    return left;
  }

  async press({ code, shift, altgr, dead }) {
    const held = [...(shift ? [[KEYSYM.shift, "ShiftLeft"]] : []), ...(altgr ? [[KEYSYM.altgr, "AltRight"]] : [])];
    for (const [sym, name] of held)
      this.rfb?.sendKey(sym, name, true);
    this.rfb?.sendKey(0, code, true);
    this.rfb?.sendKey(0, code, false);
    for (const [sym, name] of held.reverse())
      this.rfb?.sendKey(sym, name, false);
    await new Promise((done) => setTimeout(done, KEY_PAUSE));
    if (dead)
      await this.press({ code: "Space" });
  }
}
