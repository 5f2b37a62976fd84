package uploads

// Reconciliation selects uploads whose record is to be compared with what the
// platform holds. One of Upload, Account and All says which; of those only the
// ones on which work is still due are looked at.
type Reconciliation struct {
	Tenant  string
	Upload  ID
	Account string
	All     bool
	// Restored says that the record may be older than what the platform holds: an
	// upload of which neither can tell then needs a human, where it goes on else.
	Restored bool
	// DryRun leaves everything as it is.
	DryRun bool
	// After is the last ID of the page before; it runs from newest to oldest.
	After ID
}

// Remedy says what a comparison of record and platform led to, or would lead to.
type Remedy string

// The remedies. The values are stable.
const (
	RemedyNone       Remedy = "none"         // nothing is to be done about the upload
	RemedyGoOn       Remedy = "goes_on"      // the platform is no further than the record
	RemedyAdopt      Remedy = "adopts_parts" // parts that the platform has enter the ledger
	RemedyBeginAgain Remedy = "begins_again" // the platform lacks what the ledger has: a new epoch
	RemedyComplete   Remedy = "completes"    // the asset is there; finish is not called
	RemedyWait       Remedy = "waits"        // the platform cannot tell now and is asked again
	RemedyNeedsHuman Remedy = "needs_human"  // the platform cannot tell at all
	RemedyInHand     Remedy = "in_hand"      // a dispatcher has a step of it in hand: ask again
	RemedyCancel     Remedy = "cancels"      // it was to be cancelled, and there is no asset
)

// Finding is what a comparison of one upload found.
type Finding struct {
	Upload  ID
	Account string
	State   State // in the record, before the action
	Epoch   int
	// Parts and PartCount are what the ledger has, and of how many.
	Parts, PartCount int
	// Holding is what the platform says that it holds: asset, session, nothing or
	// unknown, empty if it was not asked.
	Holding string
	// Listed says that the platform lists its parts, and PlatformParts how many.
	Listed        bool
	PlatformParts int
	Action        Remedy
	Evidence      string // what was asked and answered, for a person; no secret
}
