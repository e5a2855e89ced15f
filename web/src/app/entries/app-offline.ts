// The page for when there is no network: one button, and it tries by itself
// when the network is back.

const again = () => location.reload();
document.getElementById("again")?.addEventListener("click", again);
addEventListener("online", again);
export {};
